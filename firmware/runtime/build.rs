//! Linker arguments that make the image depend on its source only.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // No time stamp, and no debug directory: it names a file of the build machine.
    for argument in ["/Brepro", "/debug:none"] {
        println!("cargo::rustc-link-arg-bins={argument}");
    }
}
