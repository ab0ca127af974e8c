//! A unified kernel image: systemd's stub with a kernel, its command line and
//! its initrd in one PE file, which is all the firmware is given.
//!
//! The stub loads the inner kernel from memory and brings its initrd by a
//! LOAD_FILE2 protocol of its own (systemd-stub(7)).

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use ovmf_lite_loader::pe::Image;
use xtask::debian::{self, Suite};
use xtask::guest::{Guest, Purpose};
use xtask::qemu::{Files, Machine};
use xtask::{host, process};

use crate::bench::{Bench, Release};

/// Said by the inner kernel's own EFI stub.
const INITRD: &str = "EFI stub: Loaded initrd from LINUX_EFI_INITRD_MEDIA_GUID";
/// A word on the command line that only the image holds.
const WORD: &str = "from-the-uki";
/// Where sections are added: multiples of this.
const ALIGNMENT: usize = 0x1_0000;

/// Boots a unified kernel image on machine `model`.
///
/// # Errors
/// When it does not get to userspace with its own initrd and command line.
pub fn run(bench: &Bench, model: &str) -> Result<()> {
    let name = format!("uki-{model}");
    let files = Files::create(&format!("{name}-files"))?;
    let image = files.directory().join("uki.efi");
    make(files.directory(), &image)?;
    let machine = Machine {
        model: model.into(),
        kernel: Some(image),
        // QEMU would override the image's own by this one.
        command_line: String::new(),
        ..bench.machine()
    };
    let outcome = bench.report(&name, &machine)?;
    ensure!(
        outcome.console.contains(INITRD),
        "expected `{INITRD}` in:\n{}",
        outcome.console
    );
    files.remove()
}

/// Makes the image for a machine with a serial console.
fn make(directory: &Path, image: &Path) -> Result<()> {
    let words = format!("console=ttyS0 panic=-1 {WORD}");
    let script = format!("grep -q {WORD} /proc/cmdline && [ -d /sys/firmware/efi/efivars ]");
    assemble(directory, image, &words, &script)
}

/// Makes the image from Debian 12's stub and kernel, with `words` for its
/// command line and a userspace that runs `script`; its parts are left in
/// `directory`.
///
/// # Errors
/// When a part cannot be had or objcopy fails.
pub fn assemble(directory: &Path, image: &Path, words: &str, script: &str) -> Result<()> {
    host::require(&[host::OBJCOPY])?;
    let stub = debian::fetch(Suite::Bookworm, "systemd-boot-efi")?
        .join("usr/lib/systemd/boot/efi/linuxx64.efi.stub");
    let kernel = Release::Bookworm.kernel()?;
    let guest = Guest::new(&kernel, &[], &Purpose::Command(script.to_owned()))?;
    let (initrd, cmdline) = (directory.join("initrd"), directory.join("cmdline"));
    fs::write(&initrd, guest.initramfs()?)?;
    fs::write(&cmdline, words)?;
    let sections = [
        (".cmdline", cmdline),
        (".linux", kernel.image),
        (".initrd", initrd),
    ];
    let mut objcopy = host::OBJCOPY.command();
    let mut address = end(&stub)?;
    for (section, file) in sections {
        let add = format!("{section}={}", file.display());
        let place = format!("{section}={address:#x}");
        objcopy.args(["--add-section", &add, "--change-section-vma", &place]);
        let size = usize::try_from(fs::metadata(&file)?.len())?;
        address += size.next_multiple_of(ALIGNMENT);
    }
    process::run(objcopy.arg(stub).arg(image))
}

/// The first address behind the sections of the stub.
fn end(stub: &Path) -> Result<usize> {
    let bytes = fs::read(stub).with_context(|| format!("cannot read {}", stub.display()))?;
    let image = Image::parse(&bytes)?;
    let base = usize::try_from(image.image_base())?;
    Ok(base + image.size().next_multiple_of(ALIGNMENT))
}
