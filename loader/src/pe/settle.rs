//! Images that run where their file was read to: not a byte is moved.
//!
//! Promises what placing promises, or to change nothing. Refuses files whose
//! sections lie elsewhere in memory than in the file, and those with
//! relocations. Linux kernels are of the kind that settles.

use alloc::vec::Vec;
use core::ops::Range;

use super::header::Headers;
use super::{Image, PAGE, Subsystem};

/// What a program will need, by its headers alone.
#[derive(Clone, Copy, Debug)]
pub struct Needs {
    /// Bytes of memory, as [`Image::size`] says.
    pub size: usize,
    /// As [`Image::alignment`] says.
    pub alignment: usize,
    /// As [`Image::subsystem`] says.
    pub subsystem: Subsystem,
}

impl Needs {
    /// Of the program whose file begins with `head`; `None` when its headers are
    /// not all there, or wrong.
    pub fn of(head: &[u8]) -> Option<Self> {
        let headers = Headers::parse(head).ok()?;
        Some(Self {
            size: (headers.size_of_image as usize).next_multiple_of(PAGE as usize),
            alignment: headers.alignment() as usize,
            subsystem: headers.subsystem,
        })
    }
}

/// Makes the file in the first `file` bytes of `memory` the image that
/// [`Image::place`] makes at address `base`, where it lies. It can be parsed there
/// again, from all of `memory`. `false`, and `memory` is as it was, when it has
/// to be placed.
pub fn settle(memory: &mut [u8], file: usize, base: u64) -> bool {
    let room = memory.len();
    let gaps = memory.get(..file).and_then(|file| gaps(file, room, base));
    let settles = gaps.is_some();
    for gap in gaps.into_iter().flatten() {
        if let Some(gap) = memory.get_mut(gap) {
            gap.fill(0);
        }
    }
    settles
}

/// What has to be zeroed in the image of `file`, if it settles.
fn gaps(file: &[u8], room: usize, base: u64) -> Option<Vec<Range<usize>>> {
    let image = Image::parse(file).ok()?;
    image.check_base(base).ok()?;
    let size = image.size();
    if image.has_relocations() || room < size {
        return None;
    }
    let mut gaps = Vec::with_capacity(image.sections.len().saturating_add(1));
    let mut end = image.headers.bytes.len();
    for section in &image.sections {
        let start = section.rva as usize;
        let lies = section.file_end == 0 || section.file_start == start;
        if !lies || section.file_end > size {
            return None;
        }
        gaps.push(end..start);
        end = start.saturating_add(section.raw.len());
    }
    gaps.push(end..size);
    Some(gaps)
}
