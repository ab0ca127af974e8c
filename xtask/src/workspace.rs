//! Where things are: the workspace, and the directory everything is built in.

use std::env;
use std::path::{Path, PathBuf};

/// The directory of the workspace's `Cargo.toml`.
pub fn root() -> &'static Path {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package)
}

/// Cargo's target directory: `CARGO_TARGET_DIR` when set, else `target`.
pub fn target() -> PathBuf {
    let configured = env::var_os("CARGO_TARGET_DIR").filter(|value| !value.is_empty());
    configured.map_or_else(|| root().join("target"), |value| root().join(value))
}

/// `path` as a user in the workspace would type it.
pub fn shown(path: &Path) -> String {
    let short = path.strip_prefix(root()).unwrap_or(path);
    short.display().to_string()
}
