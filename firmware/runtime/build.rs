//! Linker arguments that make the image depend on its source only.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // No time stamp, and no debug directory: it names a file of the build machine.
    // Constants among the code: on pages of their own they would cost a page more of
    // what the guest never gets back.
    for argument in ["/Brepro", "/debug:none", "/merge:.rdata=.text"] {
        println!("cargo::rustc-link-arg-bins={argument}");
    }
}
