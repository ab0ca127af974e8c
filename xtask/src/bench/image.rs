//! The bytes of a firmware's image.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::flash;

/// zlib's best.
const LEVEL: u8 = 9;

/// Sizes in bytes. Padding makes the first one meaningless, and an image that is
/// compressed already has nothing to gain in the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// Of the file.
    pub file: u64,
    /// Neither 00 nor FF.
    pub occupied: u64,
    /// Compressed by zlib.
    pub compressed: u64,
}

impl Image {
    /// Of the image in `file`.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn of(file: &Path) -> Result<Image> {
        let bytes = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        let compressed = miniz_oxide::deflate::compress_to_vec_zlib(&bytes, LEVEL);
        Ok(Image {
            file: bytes.len().try_into()?,
            occupied: flash::occupied(&bytes).try_into()?,
            compressed: compressed.len().try_into()?,
        })
    }
}
