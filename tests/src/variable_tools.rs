//! Debian's tools for variables on our store: efibootmgr, efivar and mokutil in
//! the guest, under this firmware and OVMF in turn, and virt-firmware on the
//! store's file, which has to agree with what the guest lists.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use xtask::guest::Guest;
use xtask::qemu::Files;

use crate::bench::{Bench, Release, Root, System};
use crate::variables::{PRELUDE, machine, ovmf, template};
use crate::{packages, virt_firmware};

const TOOLS: System = System {
    release: Release::Bookworm,
    root: Root::Initrd,
    modules: &[],
    programs: Some(add_tools),
};

/// The tools, and where their libraries are.
const PROGRAMS: [&str; 3] = ["bin/efibootmgr", "usr/bin/efivar", "usr/bin/mokutil"];
const PACKAGES: [&str; 9] = [
    "efibootmgr",
    "efivar",
    "mokutil",
    "libefivar1",
    "libefiboot1",
    "libkeyutils1",
    "libcrypt1",
    "libssl3",
    "libc6",
];
const LIBRARIES: [&str; 8] = [
    "libefivar.",
    "libefiboot.",
    "libkeyutils.",
    "libcrypt.",
    "libcrypto.",
    "libpopt.",
    "libdl.so",
    "libc.so",
];

/// What the scripts share: the outputs of tools are looked at line by line.
const WORDS: &str = r#"
need() {
    grep -qE "$1" /tmp/out || { echo "FAILED: expected $1 in:"; cat /tmp/out; exit 1; }
}
never() {
    if grep -qE "$1" /tmp/out; then echo "FAILED: expected no $1 in:"; cat /tmp/out; exit 1; fi
}
run() {
    "$@" > /tmp/out 2>&1 || { echo "FAILED: $*:"; cat /tmp/out; exit 1; }
}
create() {
    run efibootmgr -q -c -d /dev/nvme0n1 -p 1 -L "$1" -l "\\EFI\\$1.efi"
}
"#;

/// On a fresh store: what the firmware says by itself, then boot entries.
const FIRST: &str = r#"
dmesg > /tmp/out
need 'secureboot: Secure boot disabled'
run mokutil --sb-state
need '^SecureBoot disabled'
need '^Platform is in Setup Mode'
mokutil --list-enrolled > /tmp/out 2>&1
never 'error|fail'
run efibootmgr -v
never '^Boot[0-9]|^BootCurrent|^BootNext'
run efivar -l
for name in SecureBoot SetupMode OsIndicationsSupported PlatformLang PlatformLangCodes; do
    need "^$boot-$name"
done
run efivar -p -n $boot-PlatformLang
need 'Boot Service Access'
need '^00000000  65 6e 00'
for name in One Two Three; do
    create $name
done
run efibootmgr -q -o 0002,0000,0001
run efibootmgr -q -n 0001
run efibootmgr -q -t 3
run efibootmgr -v
need '^BootNext: 0001'
need '^Timeout: 3 seconds'
need '^BootOrder: 0002,0000,0001'
need '^Boot0000. One.HD\(1,MBR,0x12345678,0x800,0x4000\)/File\(.EFI.One.efi\)'
run efibootmgr -q -N
run efibootmgr -q -b 0001 -B
run efibootmgr -v
never '^BootNext|^Boot0001'
need '^BootOrder: 0002,0000'
printf value > /tmp/value
run efivar -w -n $guid-Written -t 7 -f /tmp/value
run efivar -p -n $guid-Written
need '^00000000  76 61 6c 75 65'
"#;

/// Under OVMF, which has an entry and a timeout of its own.
const SECOND: &str = r#"
run efibootmgr -v
need '^BootOrder: .*0002,0000'
need '^Boot0000. One.HD\(1,MBR,0x12345678,0x800,0x4000\)/File\(.EFI.One.efi\)'
need '^Boot0002. Three.HD'
create Theirs
run efibootmgr -q -b 0002 -B
run efibootmgr -q -n 0000
run efivar -p -n $guid-Written
need '^00000000  76 61 6c 75 65'
"#;

/// Under ours again.
const THIRD: &str = r#"
run efibootmgr -v
need '^BootNext: 0000'
need '^Boot0000. One.HD'
need '^Boot[0-9]*. Theirs.HD'
never '^Boot0002. Three'
run efibootmgr -q -b 0000 -B
run efibootmgr -q -O
run efibootmgr -v
never '^BootOrder|One'
"#;

/// Prints what the guest sees of what is kept.
const LIST: &str = r#"
for variable in *; do
    value=$(content "$variable")
    case $value in ?[13579bdf]*) echo "variable $variable $value" ;; esac
done
"#;

fn add_tools(guest: &mut Guest) -> Result<()> {
    PROGRAMS
        .iter()
        .try_for_each(|program| packages::add(guest, program, &PACKAGES, &LIBRARIES))
}

/// The tools do their work on our store, OVMF finds what they did, and we what
/// they did under OVMF.
///
/// # Errors
/// When one of them fails, or the guest and the file disagree.
pub fn run(bench: &Bench) -> Result<()> {
    let files = Files::create("variable-tools")?;
    let store = template(&files, "OVMF_VARS_4M.fd")?;
    let disk = files.directory().join("disk");
    fs::write(&disk, partitioned()?)?;
    let theirs = ovmf()?.join("OVMF_CODE_4M.fd");
    for (round, firmware, script) in [
        (1, None, FIRST),
        (2, Some(theirs), SECOND),
        (3, None, THIRD),
    ] {
        let ours = firmware.is_none();
        let mut machine = machine(bench, &store, firmware);
        let drive = format!("file={},format=raw,if=none,id=disk", disk.display());
        let nvme = "nvme,drive=disk,serial=disk";
        machine
            .extra
            .extend(["-drive", &drive, "-device", nvme].map(Into::into));
        let script = format!("{PRELUDE}{WORDS}{script}{LIST}");
        let outcome = bench.succeed(&format!("variable-tools-{round}"), machine, TOOLS, &script)?;
        if ours {
            agree(&store, &outcome.output)?;
        }
    }
    files.remove()
}

/// Expects the file `store` to hold what a guest has printed by [`LIST`], but for
/// the language, which is always the same and not kept.
fn agree(store: &Path, output: &str) -> Result<()> {
    let lines = output.lines();
    let listed = lines.filter_map(|line| line.strip_prefix("variable "));
    let mut listed: BTreeSet<_> = listed.map(str::to_owned).collect();
    let mut found = virt_firmware::variables(store).context("virt-firmware")?;
    for variables in [&mut listed, &mut found] {
        variables.retain(|line| !line.starts_with("PlatformLang-"));
    }
    ensure!(
        listed == found && !found.is_empty(),
        "the guest lists {listed:#?}, in the file are {found:#?}"
    );
    Ok(())
}

/// A disk of 10 MiB with one partition, of 8 MiB from 1 MiB on: a boot entry is
/// for one.
fn partitioned() -> Result<Vec<u8>> {
    let mut disk = vec![0; 10 << 20];
    let (signature, entry) = (0x1b8, 0x1be);
    disk[signature..signature + 4].copy_from_slice(&0x1234_5678_u32.to_le_bytes());
    // The kind of an EFI system partition; no cylinders, heads or sectors.
    disk[entry + 4] = 0xef;
    for (at, blocks) in [(8, 0x800_u32), (12, 0x4000)] {
        disk[entry + at..][..4].copy_from_slice(&blocks.to_le_bytes());
    }
    disk[0x1fe..0x200].copy_from_slice(&[0x55, 0xaa]);
    Ok(disk)
}
