//! Variables that QEMU keeps: its device uefi-vars, which has come with QEMU 10,
//! and its file, from one run of QEMU to the next.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use xtask::build;
use xtask::emulator::Emulator;
use xtask::qemu::{Files, Machine};
use xtask::vm::{End, Outcome};

use crate::bench::{Bench, Release, Root, System};
use crate::guest_application::SUCCESS;
use crate::signing::{SECURITY_DATABASE, SIGNED, Signer};
use crate::variables::{CHECK, LINUX_WITH_CHATTR, PRELUDE, WRITE};

const LINUX: System = System::new(Release::Bookworm, Root::Initrd);

/// What the firmware says.
const WORDS: &str = "variables in QEMU's uefi-vars device\r\n";

/// A machine `model` with the device, whose variables are in the file `store`.
fn machine(bench: &Bench, model: &str, store: &Path, options: &str) -> Machine {
    let device = format!("uefi-vars-x64,jsonfile={}{options}", store.display());
    Machine {
        emulator: Emulator::Ten,
        model: model.into(),
        extra: vec!["-device".into(), device.into()],
        ..bench.machine()
    }
}

fn store_in(files: &Files) -> PathBuf {
    files.directory().join("variables.json")
}

/// Runs the guest application with the device, which reads memory, or does not.
///
/// # Errors
/// When one of its checks fails, or the device is not used.
pub fn application(bench: &Bench, model: &str, reads_memory: bool) -> Result<()> {
    let (way, options) = match reads_memory {
        true => ("dma", ""),
        false => ("pio", ",use-pio=on"),
    };
    let name = format!("uefi-vars-{way}-{model}");
    let files = Files::create(&format!("{name}-files"))?;
    let machine = Machine {
        kernel: Some(build::guest_image()),
        command_line: "hosted".into(),
        ..machine(bench, model, &store_in(&files), options)
    };
    let outcome = bench.expect(&name, &machine, End::Exited(0), SUCCESS)?;
    said(&outcome)?;
    files.remove()
}

fn said(outcome: &Outcome) -> Result<()> {
    let console = &outcome.console;
    ensure!(console.contains(WORDS), "expected `{WORDS}` in:\n{console}");
    Ok(())
}

/// Variables written by Linux in one run of QEMU are there in the next.
///
/// # Errors
/// When they are not, or the device is not used.
pub fn survive(bench: &Bench, model: &str) -> Result<()> {
    let name = format!("uefi-vars-survive-{model}");
    let files = Files::create(&format!("{name}-files"))?;
    let store = store_in(&files);
    for script in [WRITE, CHECK] {
        let machine = machine(bench, model, &store, "");
        let script = format!("{PRELUDE}{script}");
        said(&bench.succeed(&name, machine, LINUX, &script)?)?;
    }
    let kept = fs::read_to_string(&store)?;
    // "onetwo": QEMU was asked, and not only us.
    ensure!(kept.contains("6f6e6574776f"), "{kept}");
    files.remove()
}

/// What Linux finds and tries when keys are enrolled.
const KEYS: &str = r#"
db=db-d719b2cb-3d3a-4596-a3bc-dad00e67656f
expect SecureBoot-$boot 0600000001
expect SetupMode-$boot 0600000000
expect PK-$boot 27000000$old
expect $db 27000000$old
dmesg | grep -i 'secure boot enabled' || { echo "FAILED: the kernel sees no Secure Boot"; exit 1; }
chattr -i $db || exit 1
for attributes in 7 47 147; do
    printf "\\$attributes\0\0\0x" > $db && { echo "FAILED: unsigned, $attributes"; exit 1; }
done
rm $db && { echo "FAILED: deleted"; exit 1; }
expect $db 27000000$old
put() {
    { printf '\47\0\0\0'; printf "$1"; } > /tmp/write
    dd if=/tmp/write of=$db bs=64k count=1
}
put "$forged" && { echo "FAILED: a forged signature"; exit 1; }
expect $db 27000000$old
put "$signed" || exit 1
expect $db 27000000$new
put "$signed" || exit 1
put "$outdated" && { echo "FAILED: an older write"; exit 1; }
expect $db 27000000$new
"#;

/// With keys enrolled QEMU says that Secure Boot is on, refuses what is not
/// signed, and takes what is.
///
/// # Errors
/// When it does not, or something else comes of it.
pub fn keys(bench: &Bench, model: &str) -> Result<()> {
    let name = format!("uefi-vars-keys-{model}");
    let files = Files::create(&format!("{name}-files"))?;
    let store = store_in(&files);
    let signer = Signer::create(files.directory())?;
    let (old, new) = (signer.list(1)?, signer.list(2)?);
    fs::write(&store, enrolled(&old))?;
    let sign = |year| signer.sign("db", SECURITY_DATABASE, year, &new);
    let signed = sign(2031)?;
    let mut forged = signed.clone();
    *forged.last_mut().unwrap_or(&mut 0) ^= 1;
    let script = format!(
        "{PRELUDE}\nold={}\nnew={}\nsigned='{}'\nforged='{}'\noutdated='{}'\n{KEYS}",
        hexadecimal(&old),
        hexadecimal(&new),
        octal(&signed),
        octal(&forged),
        octal(&sign(2030)?),
    );
    let machine = machine(bench, model, &store, "");
    said(&bench.succeed(&name, machine, LINUX_WITH_CHATTR, &script)?)?;
    let kept = fs::read_to_string(&store)?;
    ensure!(kept.contains(&hexadecimal(&new)), "{kept}");
    files.remove()
}

/// QEMU's file, in which all three variables that matter are `list`.
fn enrolled(list: &[u8]) -> String {
    let data = hexadecimal(list);
    let global = "8be4df61-93ca-11d2-aa0d-00e098032b8c";
    let database = "d719b2cb-3d3a-4596-a3bc-dad00e67656f";
    let variables = [("PK", global), ("KEK", global), ("db", database)].map(|(name, guid)| {
        format!(r#"{{ "name": "{name}", "guid": "{guid}", "attr": {SIGNED}, "data": "{data}" }}"#)
    });
    let variables = variables.join(", ");
    format!(r#"{{ "version": 2, "variables": [ {variables} ] }}"#)
}

fn hexadecimal(bytes: &[u8]) -> String {
    written(bytes, |text, byte| write!(text, "{byte:02x}"))
}

/// As printf(1) reads it.
fn octal(bytes: &[u8]) -> String {
    written(bytes, |text, byte| write!(text, "\\{byte:03o}"))
}

fn written(bytes: &[u8], one: impl Fn(&mut String, u8) -> std::fmt::Result) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = one(&mut text, *byte);
        text
    })
}
