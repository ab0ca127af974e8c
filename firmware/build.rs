//! Hands the linker script to the linker and makes sure that the runtime image
//! which the firmware carries has been built.

fn main() {
    println!("cargo:rerun-if-changed=link.ld");
    println!("cargo:rerun-if-env-changed=OVMF_LITE_RUNTIME_IMAGE");
    let directory = std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR");
    println!("cargo:rustc-link-arg-bins=-T{directory}/link.ld");
    println!("cargo:rustc-link-arg-bins=--no-eh-frame-hdr");
    match std::env::var("OVMF_LITE_RUNTIME_IMAGE") {
        Ok(path) => println!("cargo:rerun-if-changed={path}"),
        Err(_) => {
            println!(
                "cargo:error=expected OVMF_LITE_RUNTIME_IMAGE to name the built runtime image; \
                 run `cargo xtask build`, which builds both"
            );
            std::process::exit(1);
        }
    }
}
