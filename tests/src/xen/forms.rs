//! What may be in `ramdisk=`, and what is refused: with one clear line on the
//! guest's console, and a domain that `xl` shows as crashed.

use std::fs;

use anyhow::Result;
use xtask::xen::domain::{Boot, Domain};
use xtask::{host, process};

use super::Case;
use super::stage::{FIRMWARE, Stage};
use crate::bench::Release;
use crate::uki::Maker;

const REFUSED: &str = include_str!("refused.sh");
const FUNCTIONS: &str = "
refused_by_xl() {
    if timeout 60 xl create $1.cfg; then fail 'xl created a guest with an empty file'; fi
}

traced() {
    succeed $1 $2
    said $1 'trace 1 0 HandleProtocol(' || fail 'no first call'
    said $1 'ExitBootServices(' || fail 'no last call'
}
";

/// A word on the command line that only one place holds.
const WORD: &str = "from-here";
const WORDS: &str = "console=hvc0 panic=-1";
/// What a guest checks: that it was started through EFI, with its command line.
const SCRIPT: &str = "grep -q from-here /proc/cmdline && [ -d /sys/firmware/efi/efivars ]\n";

/// Runs it.
///
/// # Errors
/// When a form does not boot, or something that is none is not refused.
pub fn run(case: &Case) -> Result<()> {
    let mut stage = Stage::new(case, 512)?;
    stage.functions(REFUSED);
    stage.functions(FUNCTIONS);
    let kernel = stage.userspace(Release::Bookworm, "parts", SCRIPT)?;
    unified(&mut stage)?;
    parts(&mut stage, &kernel);
    compressed(&mut stage)?;
    refusals(&mut stage, &kernel)?;
    stage.run()?;
    Ok(())
}

/// A guest whose one module is the file `module`.
fn guest(name: &str, module: Option<&str>) -> Domain {
    Domain {
        name: name.into(),
        boot: Boot::Pvh {
            kernel: FIRMWARE.into(),
            ramdisk: module.map(Into::into),
        },
        command_line: format!("{WORDS} {WORD}"),
        memory: 256,
        ..Domain::default()
    }
}

/// A unified kernel image, with a command line of its own and none from xl.
fn unified(stage: &mut Stage) -> Result<()> {
    let directory = stage.directory().join("uki");
    fs::create_dir_all(&directory)?;
    let image = directory.join("uki.efi");
    let words = format!("{WORDS} {WORD}");
    Maker::Objcopy.assemble(&directory, &image, &words, SCRIPT)?;
    stage.bytes("uki.efi", fs::read(image)?);
    stage.domain(&Domain {
        command_line: String::new(),
        ..guest("uki", Some("uki.efi"))
    });
    stage.check("uki", "succeed uki $patience");
    Ok(())
}

/// A kernel alone, and with its initrd in the same file or beside it.
fn parts(stage: &mut Stage, kernel: &str) {
    stage.domain(&guest("bare", Some(kernel)));
    // Without an initrd there is nothing to mount: the kernel says so.
    stage.check("bare-kernel", "refused bare 'Unable to mount root fs'");
    stage.step(&format!("cat {kernel} parts.initrd > joined"));
    stage.domain(&guest("concatenated", Some("joined")));
    stage.check("concatenated", "succeed concatenated $patience");
    stage.domain(&Domain {
        command_line: format!("{WORDS} ovmf-lite.trace {WORD}"),
        ..guest("traced", Some("joined"))
    });
    stage.check("traced", "traced traced $patience");
    let pad = "dd bs=4096 conv=sync 2> /dev/null";
    stage.step(&format!("({pad} < {kernel}; cat parts.initrd) > joined"));
    stage.domain(&guest("padded", Some("joined")));
    stage.check("padded", "succeed padded $patience");
    stage.domain(&Domain {
        boot: Boot::Shim {
            firmware: FIRMWARE.into(),
            kernel: kernel.into(),
            ramdisk: Some("parts.initrd".into()),
        },
        ..guest("shim", None)
    });
    stage.check("two-modules", "succeed shim $patience");
}

/// libxenguest unpacks what is compressed, and appends some zeros.
fn compressed(stage: &mut Stage) -> Result<()> {
    host::require(&[host::GZIP])?;
    let (kernel, _) = stage.kernel(Release::Bookworm)?;
    let mut module = fs::read(&kernel.image)?;
    module.extend(fs::read(stage.directory().join("uki/initrd"))?);
    let plain = stage.directory().join("module");
    fs::write(&plain, module)?;
    let mut gzip = host::GZIP.command();
    let packed = process::capture(gzip.arg("-1c").arg(plain))?;
    stage.bytes("module.gz", packed);
    stage.domain(&guest("compressed", Some("module.gz")));
    stage.check("compressed", "succeed compressed $patience");
    Ok(())
}

fn refusals(stage: &mut Stage, kernel: &str) -> Result<()> {
    stage.bytes("text", "Not a kernel.\n");
    stage.bytes("empty", "");
    stage.step(&format!("head -c 5000000 {kernel} > half"));
    let refusals = [
        ("no-kernel", Some("text"), "not a PE image"),
        ("nothing", None, "expected a kernel"),
        ("truncated", Some("half"), "truncated"),
    ];
    for (name, module, words) in refusals {
        stage.domain(&guest(name, module));
        stage.check(
            &format!("refused-{name}"),
            &format!("refused {name} '{words}'"),
        );
    }
    empty_initrds(stage, kernel)
}

/// xl refuses an empty file; a compressed one it unpacks, to a few zeros.
fn empty_initrds(stage: &mut Stage, kernel: &str) -> Result<()> {
    let mut gzip = host::GZIP.command();
    stage.bytes(
        "empty.gz",
        process::capture(gzip.arg("-c").arg("/dev/null"))?,
    );
    for (name, file) in [("empty", "empty"), ("emptied", "empty.gz")] {
        let boot = Boot::Shim {
            firmware: FIRMWARE.into(),
            kernel: kernel.into(),
            ramdisk: Some(file.into()),
        };
        stage.domain(&Domain {
            boot,
            ..guest(name, None)
        });
    }
    stage.check("refused-empty-initrd", "refused_by_xl empty");
    stage.check(
        "refused-emptied-initrd",
        "refused emptied 'Unable to mount root fs'",
    );
    Ok(())
}
