//! Links the probe for address 0 and without padding: some firmware places an
//! image where it was linked, and it has to fit into a kernel's setup code.

fn main() {
    for argument in ["/base:0", "/align:64", "/filealign:64", "/opt:ref,icf"] {
        println!("cargo:rustc-link-arg-bin=ovmf-lite-probe={argument}");
    }
}
