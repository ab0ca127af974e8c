//! kexec: the kernel that the firmware started starts another one, which has
//! neither boot services nor a second chance at SetVirtualAddressMap, and finds
//! the runtime services working all the same (Linux,
//! arch/x86/kernel/kexec-bzimage64.c).

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use xtask::debian::{self, Suite};
use xtask::guest::{Guest, Purpose};
use xtask::kernel::Kernel;
use xtask::qemu::{Files, Machine};

use crate::bench::{Bench, Release};

/// Debian's kexec and the libraries it is linked to.
const PACKAGES: [&str; 10] = [
    "kexec-tools",
    "libc6",
    "libxencall1",
    "libxendevicemodel1",
    "libxenevtchn1",
    "libxenforeignmemory1",
    "libxengnttab1",
    "libxenmisc4.17",
    "libxentoolcore1",
    "libxentoollog1",
];

/// Where packages have libraries.
const LIBRARIES: [&str; 2] = ["lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu"];

const VARIABLE: &str = "/sys/firmware/efi/efivars/BeforeKexec-cfc8fc79-be2e-4ddc-97f0-9f98bfe298a0";

/// Boots, sets a variable, starts the same kernel again by kexec, and expects
/// the variable there, to be changed and deleted.
///
/// # Errors
/// When anything else happens.
pub fn run(bench: &Bench, release: Release) -> Result<()> {
    let name = format!("kexec-{}", release.linux());
    let files = Files::create(&format!("{name}-files"))?;
    let kernel = release.kernel()?;
    let initrd = files.directory().join("initrd");
    fs::write(&initrd, first(&kernel)?.initramfs()?)?;
    let machine = Machine {
        kernel: Some(kernel.image),
        initrd: Some(initrd),
        memory: "1G".into(),
        ..bench.machine()
    };
    bench.report(&name, &machine)?;
    files.remove()
}

/// The userspace that starts the second kernel, and holds it.
fn first(kernel: &Kernel) -> Result<Guest> {
    let script = format!(
        "printf '\\7\\0\\0\\0first' > {VARIABLE} || exit 1\n\
         kexec -s -l /kernel --initrd=/initrd --reuse-cmdline || exit 2\n\
         kexec -e\n\
         exit 3\n"
    );
    let mut guest = Guest::new(kernel, &[], &Purpose::Command(script))?;
    guest.add_file("kernel", &read(&kernel.image)?);
    guest.add_file("initrd", &second(kernel)?.initramfs()?);
    guest.add_directory("lib");
    guest.add_directory("lib64");
    for package in PACKAGES {
        let package = debian::fetch(Suite::Bookworm, package)?;
        for directory in LIBRARIES {
            add_libraries(&mut guest, &package.join(directory))?;
        }
        let program = package.join("sbin/kexec");
        if program.is_file() {
            guest.add_program("bin/kexec", &read(&program)?);
        }
    }
    Ok(guest)
}

/// The userspace of the second kernel.
fn second(kernel: &Kernel) -> Result<Guest> {
    let script = format!(
        "dmesg | grep -iE 'efi:|efivars'\n\
         [ \"$(tail -c +5 {VARIABLE})\" = first ] || exit 11\n\
         printf '\\7\\0\\0\\0second' > {VARIABLE} || exit 12\n\
         [ \"$(tail -c +5 {VARIABLE})\" = second ] || exit 13\n\
         rm {VARIABLE} || exit 14\n\
         set -- /sys/firmware/efi/runtime-map/*/\n\
         [ $# = 1 ] || exit 15\n"
    );
    Guest::new(kernel, &[], &Purpose::Command(script))
}

/// Adds the libraries in `directory`, the dynamic linker where programs expect
/// it.
fn add_libraries(guest: &mut Guest, directory: &Path) -> Result<()> {
    let Ok(entries) = fs::read_dir(directory) else {
        return Ok(());
    };
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with("ld-linux") {
            guest.add_program(&format!("lib64/{name}"), &read(&path)?);
        } else if name.starts_with("libc.so") || name.starts_with("libxen") {
            guest.add_program(&format!("lib/{name}"), &read(&path)?);
        }
    }
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}
