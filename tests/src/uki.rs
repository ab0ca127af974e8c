//! A unified kernel image: systemd's stub with a kernel, its command line and
//! its initrd in one PE file, which is all the firmware is given.
//!
//! The stub loads the inner kernel from memory and brings its initrd by a
//! LOAD_FILE2 protocol of its own (systemd-stub(7)).

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use ovmf_lite_loader::pe::Image;
use xtask::debian::{self, Suite};
use xtask::guest::{Guest, Purpose};
use xtask::qemu::{Files, Machine};
use xtask::{host, process};

use crate::bench::{Bench, COMMAND_LINE, Release};
use crate::linux::Entry;

/// Said by the inner kernel's own EFI stub.
const INITRD: &str = "EFI stub: Loaded initrd from LINUX_EFI_INITRD_MEDIA_GUID";
/// A word on the command line that only the image holds.
const WORD: &str = "from-the-uki";
/// Where sections are added: multiples of this.
const ALIGNMENT: usize = 0x1_0000;

/// Who puts the image together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Maker {
    /// objcopy, with Debian 12's stub and kernel.
    Objcopy,
    /// systemd's ukify, with Debian 13's.
    Ukify,
}

impl Maker {
    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Maker::Objcopy => "objcopy",
            Maker::Ukify => "ukify",
        }
    }

    /// Makes `image` with `words` for its command line and a userspace that runs
    /// `script`; its parts are left in `directory`.
    ///
    /// # Errors
    /// When a part cannot be had or the maker fails.
    pub fn assemble(self, directory: &Path, image: &Path, words: &str, script: &str) -> Result<()> {
        let parts = parts(directory, self, words, script)?;
        match self {
            Maker::Objcopy => objcopy(&parts, image),
            Maker::Ukify => ukify(&parts, image),
        }
    }

    fn suite(self) -> (Suite, Release) {
        match self {
            Maker::Objcopy => (Suite::Bookworm, Release::Bookworm),
            Maker::Ukify => (Suite::Trixie, Release::Trixie),
        }
    }
}

/// What goes into an image.
struct Parts {
    stub: PathBuf,
    kernel: PathBuf,
    initrd: PathBuf,
    command_line: PathBuf,
}

/// Boots a unified kernel image on machine `model`, as kernel or as PVH module.
///
/// # Errors
/// When it does not get to userspace with its own initrd and command line.
pub fn run(bench: &Bench, model: &str, entry: Entry, maker: Maker) -> Result<()> {
    let name = format!("uki-{}-{model}", maker.name());
    let files = Files::create(&format!("{name}-files"))?;
    let image = files.directory().join("uki.efi");
    let words = format!("{COMMAND_LINE} {WORD}");
    let script = format!("grep -q {WORD} /proc/cmdline && [ -d /sys/firmware/efi/efivars ]");
    maker.assemble(files.directory(), &image, &words, &script)?;
    let machine = Machine {
        model: model.into(),
        wrapping: entry.wrapping(),
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

fn parts(directory: &Path, maker: Maker, words: &str, script: &str) -> Result<Parts> {
    let (suite, release) = maker.suite();
    let stub = debian::fetch(suite, "systemd-boot-efi")?
        .join("usr/lib/systemd/boot/efi/linuxx64.efi.stub");
    let kernel = release.kernel()?;
    let guest = Guest::new(&kernel, &[], &Purpose::Command(script.to_owned()))?;
    let (initrd, command_line) = (directory.join("initrd"), directory.join("cmdline"));
    guest.write_initramfs(&initrd)?;
    fs::write(&command_line, words)?;
    Ok(Parts {
        stub,
        kernel: kernel.image,
        initrd,
        command_line,
    })
}

fn objcopy(parts: &Parts, image: &Path) -> Result<()> {
    host::require(&[host::OBJCOPY])?;
    let sections = [
        (".cmdline", &parts.command_line),
        (".linux", &parts.kernel),
        (".initrd", &parts.initrd),
    ];
    let mut objcopy = host::OBJCOPY.command();
    let mut address = end(&parts.stub)?;
    for (section, file) in sections {
        let add = format!("{section}={}", file.display());
        let place = format!("{section}={address:#x}");
        objcopy.args(["--add-section", &add, "--change-section-vma", &place]);
        let size = usize::try_from(fs::metadata(file)?.len())?;
        address += size.next_multiple_of(ALIGNMENT);
    }
    process::run(objcopy.arg(&parts.stub).arg(image))
}

/// ukify(1) is a program in Python that needs one module of Debian's.
fn ukify(parts: &Parts, image: &Path) -> Result<()> {
    host::require(&[host::PYTHON])?;
    let program = debian::fetch(Suite::Trixie, "systemd-ukify")?.join("usr/bin/ukify");
    let modules = debian::fetch(Suite::Trixie, "python3-pefile")?;
    let mut python = host::PYTHON.command();
    python.env("PYTHONPATH", modules.join("usr/lib/python3/dist-packages"));
    python.env("PYTHONDONTWRITEBYTECODE", "1");
    python.arg(program).arg("build");
    for (option, value) in [
        ("stub", parts.stub.display().to_string()),
        ("linux", parts.kernel.display().to_string()),
        ("initrd", parts.initrd.display().to_string()),
        ("cmdline", format!("@{}", parts.command_line.display())),
        ("os-release", "ID=test".into()),
        ("uname", "test".into()),
        ("output", image.display().to_string()),
    ] {
        python.arg(format!("--{option}={value}"));
    }
    process::text(&mut python).map(drop)
}

/// The first address behind the sections of the stub.
fn end(stub: &Path) -> Result<usize> {
    let bytes = fs::read(stub).with_context(|| format!("cannot read {}", stub.display()))?;
    let image = Image::parse(&bytes)?;
    let base = usize::try_from(image.image_base())?;
    Ok(base + image.size().next_multiple_of(ALIGNMENT))
}
