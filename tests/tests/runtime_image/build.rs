//! Where the image under test comes from.
//!
//! Promises the file that `OVMF_LITE_RUNTIME_IMAGE` names, or else one built
//! from the sources at hand: never a leftover of an earlier build.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

const TARGET: &str = "x86_64-unknown-uefi";

/// The bytes of the image file.
pub fn image() -> &'static [u8] {
    static IMAGE: OnceLock<Vec<u8>> = OnceLock::new();
    IMAGE.get_or_init(|| {
        let path = std::env::var_os("OVMF_LITE_RUNTIME_IMAGE").map_or_else(build, PathBuf::from);
        std::fs::read(&path)
            .unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()))
    })
}

/// Builds the image in a directory of its own: the usual one may be locked by
/// the cargo that runs this test.
fn build() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let directory = root.join("target/runtime-image");
    let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| env!("CARGO").into()))
        .args([
            "build",
            "--package",
            "ovmf-lite-runtime",
            "--profile",
            "runtime",
            "--target",
            TARGET,
        ])
        .arg("--target-dir")
        .arg(&directory)
        .current_dir(root)
        // Flags for the host, such as those of a coverage run, are not for the image.
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .output()
        .expect("cargo runs");
    assert!(
        output.status.success(),
        "the runtime image does not build; if the target is missing, run `rustup target add {TARGET}`\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    directory.join(TARGET).join("runtime/ovmf-lite-runtime.efi")
}
