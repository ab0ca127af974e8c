//! EFI programs that nobody here wrote, started as the guest's kernel: Debian's
//! GRUB, iPXE, systemd-boot, memtest86+ and three of efitools.

use std::fs;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use xtask::debian::{self, Suite};
use xtask::guest::{Guest, Purpose};
use xtask::process;
use xtask::qemu::{Console, Files, Machine};
use xtask::tree::Tree;
use xtask::vm::{Echo, End, Vm};

use crate::bench::{Bench, COMMAND_LINE, Release, TIME_LIMIT};

/// Where GRUB's modules and the makers of its images are, with the libraries of
/// the latter.
const GRUB: [&str; 7] = [
    "grub-efi-amd64-bin",
    "grub-common",
    "libdevmapper1.02.1",
    "liblzma5",
    "libpcre2-8-0",
    "libselinux1",
    "libudev1",
];
/// What a GRUB image has to have to find a kernel in itself and start it.
const GRUB_MODULES: [&str; 6] = ["boot", "echo", "linux", "memdisk", "newc", "normal"];
/// A word that only GRUB's configuration says.
const GRUB_WORD: &str = "started-by-grub";
const EFITOOLS: &str = "usr/lib/efitools/x86_64-linux-gnu";

/// GRUB with a kernel and an initrd in its own memory disk starts them: it loads
/// the kernel by LoadImage and StartImage, and brings the initrd itself.
///
/// # Errors
/// When the kernel does not get to userspace.
pub fn grub(bench: &Bench, model: &str) -> Result<()> {
    let name = format!("judge-grub-{model}");
    let files = Files::create(&format!("{name}-files"))?;
    let image = files.directory().join("grub.efi");
    fs::write(files.directory().join("memdisk"), memory_disk()?)?;
    make_grub(files.directory(), &image)?;
    let machine = program(bench, model, image, "");
    let outcome = bench.report(&name, &machine)?;
    ensure!(
        outcome.console.contains(GRUB_WORD),
        "expected `{GRUB_WORD}` on the console:\n{}",
        outcome.console
    );
    files.remove()
}

fn memory_disk() -> Result<Vec<u8>> {
    let kernel = Release::Bookworm.kernel()?;
    let script = "grep -q BOOT_IMAGE= /proc/cmdline && [ -d /sys/firmware/efi/efivars ]";
    let guest = Guest::new(&kernel, &[], &Purpose::Command(script.into()))?;
    let configuration = format!(
        "echo {GRUB_WORD}\nlinux /boot/vmlinuz {COMMAND_LINE}\ninitrd /boot/initrd\nboot\n"
    );
    let mut tree = Tree::default();
    tree.add_copy("boot/vmlinuz", &kernel.image)?;
    tree.add_file("boot/initrd", &guest.initramfs()?);
    tree.add_file("boot/grub/grub.cfg", configuration.as_bytes());
    tree.initramfs()
}

fn make_grub(directory: &Path, image: &Path) -> Result<()> {
    let packages = debian::fetch_all(Suite::Bookworm, &GRUB)?;
    let [modules, programs, ..] = &packages[..] else {
        unreachable!("a directory for each package");
    };
    let libraries = packages.iter().flat_map(|package| {
        ["lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu"].map(|part| package.join(part))
    });
    let mut make = std::process::Command::new(programs.join("usr/bin/grub-mkimage"));
    make.env("LD_LIBRARY_PATH", std::env::join_paths(libraries)?);
    make.args(["-O", "x86_64-efi", "-p", "(memdisk)/boot/grub", "-d"]);
    make.arg(modules.join("usr/lib/grub/x86_64-efi"));
    make.arg("-m").arg(directory.join("memdisk"));
    process::run(make.arg("-o").arg(image).args(GRUB_MODULES))
}

/// memtest86+ finds no error in the memory that the memory map offers, and names
/// the machine that SMBIOS does. Debian 12's version wants a graphics output
/// protocol, from OVMF as well.
///
/// # Errors
/// When it does not get beyond its first four tests, or finds an error.
pub fn memtest(bench: &Bench) -> Result<()> {
    let image = debian::fetch(Suite::Trixie, "memtest86+")?.join("boot/memtest86+x64.efi");
    let machine = Machine {
        memory: "64M".into(),
        ..program(bench, "q35", image, "console=ttyS0 nobench nosmp")
    };
    bench.watch("judge-memtest86+", &machine, |console| {
        let mut counts = console.split("Errors: ").skip(1);
        counts.all(|count| count.starts_with("0 "))
            && console.contains("Standard PC (Q35")
            && memtests(console).any(|number| number >= 4)
    })
}

/// The numbers of the tests that memtest86+ says it runs, as in
/// `#6  [Moving inversions, 64 bit pattern]`. It writes to a serial line every
/// other second, so a test that is over sooner is never named.
fn memtests(console: &str) -> impl Iterator<Item = u32> + '_ {
    let named = console.split('#').skip(1);
    named.filter_map(|text| text.split_once('[')?.0.trim().parse().ok())
}

/// What is typed to iPXE, when, and what it answers at last.
const IPXE: [(&str, &[u8]); 3] = [
    ("Press Ctrl-B", b"\x02"),
    ("iPXE> ", b"show platform\r"),
    ("builtin/platform:string = efi", b"exit\r"),
];

/// iPXE waits with HLT, looks for network devices by connecting controllers, reads
/// commands and ends.
///
/// # Errors
/// When it does not.
pub fn ipxe(bench: &Bench) -> Result<()> {
    let image = debian::fetch(Suite::Bookworm, "ipxe")?.join("boot/ipxe.efi");
    let files = Files::create("judge-ipxe")?;
    let socket = files.directory().join("keyboard");
    let machine = Machine {
        keyboard: Some(socket.clone()),
        ..program(bench, "q35", image, "ipxe.efi")
    };
    let mut vm = Vm::start(&machine, &files, Console::File)?;
    vm.wait_for(TIME_LIMIT, |console| console.contains(IPXE[0].0))?;
    let mut keyboard = UnixStream::connect(socket)?;
    for (said, typed) in IPXE {
        vm.wait_for(TIME_LIMIT, |console| console.contains(said))?;
        keyboard.write_all(typed)?;
    }
    let outcome = vm.wait(Some(TIME_LIMIT), Echo::Nothing)?;
    ensure!(
        outcome
            .console
            .contains("the kernel has ended with success"),
        "expected iPXE to end, found {:?}:\n{}",
        outcome.end,
        outcome.console
    );
    files.remove()
}

/// systemd-boot, which has no file system to read, follows the path of its own
/// image and says so.
///
/// # Errors
/// When it does not, or its status does not come back.
pub fn systemd_boot(bench: &Bench) -> Result<()> {
    let package = debian::fetch(Suite::Bookworm, "systemd-boot-efi")?;
    let image = package.join("usr/lib/systemd/boot/efi/systemd-bootx64.efi");
    let machine = program(bench, "q35", image, "systemd-boot");
    gives_up(
        bench,
        "judge-systemd-boot",
        &machine,
        "Unable to open root directory",
    )
}

/// efitools' HashTool, which looks for other files next to its own, shows its menu.
///
/// # Errors
/// When it does not.
pub fn hash_tool(bench: &Bench) -> Result<()> {
    let machine = program(bench, "q35", efitool("HashTool.efi")?, "HashTool.efi");
    bench.watch("judge-hash-tool", &machine, |console| {
        console.contains("Enroll Hash")
    })
}

/// efitools' HelloWorld draws its box.
///
/// # Errors
/// When it does not.
pub fn hello_world(bench: &Bench) -> Result<()> {
    let machine = program(bench, "q35", efitool("HelloWorld.efi")?, "HelloWorld.efi");
    bench.watch("judge-hello-world", &machine, |console| {
        console.contains("This file is used to prove you have managed")
    })
}

/// efitools' ReadVars parses its load options and says how it is used. With
/// fewer words it reads arrays that it never filled, under OVMF as well.
///
/// # Errors
/// When it does not, or its status does not come back.
pub fn read_vars(bench: &Bench) -> Result<()> {
    let machine = program(
        bench,
        "q35",
        efitool("ReadVars.efi")?,
        "ReadVars.efi PK KEK db",
    );
    gives_up(
        bench,
        "judge-read-vars",
        &machine,
        "Usage: ReadVars.efi: [-s|-n] [var]",
    )
}

/// The program says `words`, and its status, INVALID_PARAMETER, comes back.
fn gives_up(bench: &Bench, name: &str, machine: &Machine, words: &str) -> Result<()> {
    let outcome = bench.expect(name, machine, End::Exited(1), words)?;
    ensure!(
        outcome.console.contains("gave up with INVALID_PARAMETER"),
        "expected its status, INVALID_PARAMETER:\n{}",
        outcome.console
    );
    Ok(())
}

fn efitool(name: &str) -> Result<PathBuf> {
    let package = debian::fetch(Suite::Bookworm, "efitools")?;
    Ok(package.join(EFITOOLS).join(name))
}

fn program(bench: &Bench, model: &str, image: PathBuf, options: &str) -> Machine {
    Machine {
        model: model.into(),
        kernel: Some(image),
        command_line: options.into(),
        ..bench.machine()
    }
}
