//! kexec: the kernel that the firmware started starts another one, which has
//! neither boot services nor a second chance at SetVirtualAddressMap, and finds
//! the runtime services working all the same (Linux,
//! arch/x86/kernel/kexec-bzimage64.c).

use anyhow::Result;
use xtask::guest::{Guest, Purpose};
use xtask::kernel::Kernel;
use xtask::qemu::{Files, Machine};

use crate::bench::{Bench, Release};
use crate::packages::{self, read};

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
    first(&kernel)?.write_initramfs(&initrd)?;
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
    let libraries = ["libc.so", "libxen"];
    packages::add(&mut guest, "sbin/kexec", &PACKAGES, &libraries)?;
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
