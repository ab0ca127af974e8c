//! Variables that survive: in QEMU's second flash, from one run of QEMU to the
//! next, under this firmware and Debian's OVMF in turn, and when QEMU is killed
//! while the guest writes.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, ensure};
use xtask::debian::{self, Suite};
use xtask::qemu::{Console, Files, Machine, Wrapping};
use xtask::vm::Vm;

use crate::bench::{Bench, Release, Root, System, TIME_LIMIT};
use crate::packages;
use crate::xen::APPLICATION_WROTE;

const LINUX: System = System::new(Release::Bookworm, Root::Initrd);

/// With chattr(1), which busybox has not: Linux makes variables immutable that it
/// does not know.
pub(crate) const LINUX_WITH_CHATTR: System = System {
    programs: Some(packages::add_chattr),
    ..LINUX
};

/// What the scripts share. Linux lets variables of its crash GUID be changed
/// without ceremony (fs/efivarfs/vars.c).
pub(crate) const PRELUDE: &str = r#"
cd /sys/firmware/efi/efivars || exit 1
guid=cfc8fc79-be2e-4ddc-97f0-9f98bfe298a0
boot=8be4df61-93ca-11d2-aa0d-00e098032b8c
content() {
    hexdump -v -e '1/1 "%02x"' "$1"
}
# Writes a variable of $2 characters $3, as one write(2) has to.
large() {
    { printf '\7\0\0\0'; head -c $2 /dev/zero | tr '\0' $3; } > /tmp/large
    dd if=/tmp/large of=$1-$guid bs=64k count=1 2> /dev/null
}
expect() {
    found=$(content "$1")
    [ "$found" = "$2" ] || { echo "FAILED: $1 is $found, expected $2"; exit 1; }
}
"#;

/// Writes what [`CHECK`] expects: a boot entry named `Kept`, a variable that was
/// extended and one that was replaced. One is deleted.
pub(crate) const WRITE: &str = r#"
entry='\7\0\0\0\1\0\0\0\4\0K\0e\0p\0t\0\0\0\177\377\4\0'
printf "$entry" > Boot0ABC-$boot || exit 1
printf '\7\0\0\0one' > Kept-$guid && printf '\107\0\0\0two' > Kept-$guid || exit 1
printf '\7\0\0\0old' > New-$guid && printf '\7\0\0\0new' > New-$guid || exit 1
printf '\7\0\0\0x' > Gone-$guid && rm Gone-$guid || exit 1
"#;

pub(crate) const CHECK: &str = r#"
expect Boot0ABC-$boot 070000000100000004004b0065007000740000007fff0400
expect Kept-$guid 070000006f6e6574776f
expect New-$guid 070000006e6577
if [ -e Gone-$guid ]; then echo "FAILED: a deleted variable is back"; exit 1; fi
"#;

const KEYS: &str = r#"
db=db-d719b2cb-3d3a-4596-a3bc-dad00e67656f
for key in PK-$boot KEK-$boot $db; do
    [ "$(content $key | cut -c1-8)" = 27000000 ] || { echo "FAILED: no $key"; exit 1; }
done
expect SetupMode-$boot 0600000000
expect SecureBoot-$boot 0600000000
# Only then is it the firmware that refuses.
chattr -i $db || { echo "FAILED: immutable"; exit 1; }
if rm $db || printf '\7\0\0\0x' > $db; then echo "FAILED: changed"; exit 1; fi
exit 0
"#;

/// Replaces a variable until the store has been rewritten, or until there is no
/// more room for OVMF, which rewrites the store at the next boot.
const FILL: &str = r#"
for i in $(seq 40); do
    large Large 8000 $((i % 10)) || break
done
"#;

/// Replaces a variable over and over, in a store that is nearly full, and says so
/// after each time, on the console.
const LOOP: &str = r#"
large Large 50000 x || exit 1
i=0
[ -e Count-$guid ] && i=$(tail -c +5 Count-$guid)
i=$((i))
echo "found=$i." > /dev/ttyS0
while true; do
    i=$((i + 1))
    printf '\7\0\0\0%d' $i > Count-$guid || exit 1
    printf '\7\0\0\0%200d' $i > Other-$guid || exit 1
    echo "written=$i." > /dev/ttyS0
done
"#;

/// Debian's template for variables, copied into `files`.
pub(crate) fn template(files: &Files, name: &str) -> Result<PathBuf> {
    let copy = files.directory().join("vars.fd");
    fs::copy(ovmf()?.join(name), &copy).with_context(|| format!("cannot copy {name}"))?;
    Ok(copy)
}

/// The 4 MiB build of a Debian release's OVMF, with a copy of its template for
/// variables in `files`.
///
/// # Errors
/// When they cannot be had.
pub fn ovmf_of(suite: Suite, files: &Files) -> Result<(PathBuf, PathBuf)> {
    let directory = debian::fetch(suite, "ovmf")?.join("usr/share/OVMF");
    let store = files.directory().join("vars.fd");
    let template = directory.join("OVMF_VARS_4M.fd");
    fs::copy(&template, &store).with_context(|| format!("cannot copy {}", template.display()))?;
    Ok((directory.join("OVMF_CODE_4M.fd"), store))
}

/// Where Debian's OVMF is.
pub(crate) fn ovmf() -> Result<PathBuf> {
    Ok(debian::fetch(Suite::Bookworm, "ovmf")?.join("usr/share/OVMF"))
}

/// A machine with `firmware`, or ours, and variables in the file `store`.
pub(crate) fn machine(bench: &Bench, store: &Path, firmware: Option<PathBuf>) -> Machine {
    let mut machine = bench.machine();
    machine.wrapping = Wrapping::Pflash;
    machine.firmware = firmware.or(machine.firmware);
    let drive = format!("if=pflash,unit=1,format=raw,file={}", store.display());
    machine.extra.extend(["-drive".into(), drive.into()]);
    machine
}

/// Variables written in one run of QEMU are there in the next, in Debian's
/// template `name`, and in one that is blank or torn.
///
/// # Errors
/// When they are not, or the firmware does not say where it keeps them.
pub fn survive(bench: &Bench, name: &str) -> Result<()> {
    let files = Files::create(&format!("survive-{name}"))?;
    let store = template(&files, name)?;
    let size = fs::metadata(&store)?.len();
    let run = |script: &str, words: &str| {
        let script = format!("{PRELUDE}{script}");
        let outcome = bench.succeed(
            &format!("survive-{name}-run"),
            machine(bench, &store, None),
            LINUX,
            &script,
        )?;
        let words = format!("variables in {} KiB of flash{words}", size >> 10);
        let said = outcome.console.contains(&words);
        ensure!(
            said,
            "expected `{words}` on the console:\n{}",
            outcome.console
        );
        Ok(())
    };
    run(WRITE, "\r\n")?;
    run(CHECK, "\r\n")?;
    fs::write(&store, vec![0xff; usize::try_from(size)?])?;
    let none = format!("[ -e Kept-$guid ] && exit 1\n{WRITE}");
    run(&none, ": expected a store, found none or a damaged one")?;
    run(CHECK, "\r\n")?;
    files.remove()
}

/// What one firmware writes the other finds, both ways, and so it does after
/// either of them has rewritten the store.
///
/// # Errors
/// When a variable is missing or wrong.
pub fn shared_with_ovmf(bench: &Bench, code: &str, name: &str) -> Result<()> {
    let files = Files::create(&format!("shared-{name}"))?;
    let store = template(&files, name)?;
    let theirs = || ovmf().map(|directory| Some(directory.join(code)));
    let run = |firmware, script: &str| {
        let script = format!("{PRELUDE}{script}");
        bench.succeed(
            &format!("shared-{name}-run"),
            machine(bench, &store, firmware),
            LINUX,
            &script,
        )
    };
    run(None, &format!("{WRITE}{FILL}"))?;
    let by_us = rewritings(&store)?;
    let write = "printf '\\7\\0\\0\\0o' > Theirs-$guid || exit 1";
    run(theirs()?, &format!("{CHECK}{write}{FILL}"))?;
    run(theirs()?, CHECK)?;
    let by_them = rewritings(&store)? - by_us;
    ensure!(
        by_us > 0 && by_them > 0,
        "rewritten {by_us} and {by_them} times"
    );
    let remove = "expect Theirs-$guid 070000006f\nrm Theirs-$guid New-$guid\nls";
    let outcome = run(None, &format!("{CHECK}{remove}"))?;
    // Boot entries that OVMF makes by itself.
    let made = outcome.output.contains("BootOrder-") && outcome.output.contains("Boot0000-");
    ensure!(
        made,
        "expected OVMF's boot entries, found:\n{}",
        outcome.output
    );
    run(
        theirs()?,
        "[ -e New-$guid ] && exit 1\nexpect Kept-$guid 070000006f6e6574776f",
    )?;
    files.remove()
}

/// Debian's OVMF finds in `store` what the guest application has written there
/// (`tests/guest/src/store.rs`).
///
/// # Errors
/// When it does not.
pub fn read_by_ovmf(bench: &Bench, name: &str, store: &[u8]) -> Result<()> {
    let files = Files::create(&format!("{name}-ovmf"))?;
    let file = files.directory().join("vars.fd");
    fs::write(&file, store)?;
    let firmware = Some(ovmf()?.join("OVMF_CODE_4M.fd"));
    let machine = machine(bench, &file, firmware);
    let script = format!("{PRELUDE}{}", APPLICATION_WROTE);
    bench.succeed(&format!("{name}-ovmf-run"), machine, LINUX, &script)?;
    files.remove()
}

/// `name` among Debian's templates for variables.
///
/// # Errors
/// When it cannot be fetched.
pub fn template_bytes(name: &str) -> Result<Vec<u8>> {
    let file = ovmf()?.join(name);
    fs::read(&file).with_context(|| format!("cannot read {}", file.display()))
}

/// The keys in Debian's template with Microsoft's are seen, and stay as they are.
///
/// # Errors
/// When one is missing, or can be changed without a signature.
pub fn keys(bench: &Bench) -> Result<()> {
    let files = Files::create("keys")?;
    let store = template(&files, "OVMF_VARS_4M.ms.fd")?;
    let before = fs::read(&store)?;
    let script = format!("{PRELUDE}{KEYS}");
    bench.succeed(
        "keys-run",
        machine(bench, &store, None),
        LINUX_WITH_CHATTR,
        &script,
    )?;
    let same = fs::read(&store)? == before;
    ensure!(
        same,
        "expected the file of the store as it was, found it changed"
    );
    files.remove()
}

/// How many times a store has been rewritten: entries of 80 bytes, all steps of
/// which are done (EDK2 `FaultTolerantWriteDxe`).
fn rewritings(store: &Path) -> Result<usize> {
    let bytes = fs::read(store)?;
    let working = if bytes.len() > 1 << 17 {
        0x4_1000
    } else {
        0xf000
    };
    let entries = bytes[working + 32..working + 4096].chunks_exact(80);
    Ok(entries
        .take_while(|entry| (entry[0], entry[40]) == (0xf8, 0xf9))
        .count())
}

/// QEMU is killed while the guest writes, `rounds` times: what the guest was told
/// to be written is there afterwards.
///
/// # Errors
/// When it is not.
pub fn killed(bench: &Bench, rounds: u32) -> Result<()> {
    let files = Files::create("killed-store")?;
    let store = template(&files, "OVMF_VARS.fd")?;
    let mut written = 0;
    for round in 0..rounds {
        let machine = bench.with(
            machine(bench, &store, None),
            LINUX,
            &format!("{PRELUDE}{LOOP}"),
            &files,
        )?;
        let run = Files::create(&format!("killed-{round}"))?;
        let mut vm = Vm::start(&machine, &run, Console::File)?;
        // Another moment each time.
        let more = 20 + round * 37 % 101;
        let enough =
            |console: &str| last(console, "written=").is_some_and(|at| at > written + more);
        let result = vm.wait_for(TIME_LIMIT, enough);
        let console = vm.stop()?.console;
        let explain = || anyhow!("round {round}, after {written} were written:\n{console}");
        result.with_context(explain)?;
        let found = last(&console, "found=").with_context(explain)?;
        // The last one may have been written and not told.
        ensure!(
            (written..=written + 1).contains(&found),
            "found {found}: {}",
            explain()
        );
        written = last(&console, "written=").with_context(explain)?;
        run.remove()?;
    }
    println!("killed {rounds} times, after {written} writes");
    files.remove()
}

/// The number that `label` says last, and completely.
fn last(console: &str, label: &str) -> Option<u32> {
    let texts = console.rsplit(label);
    let mut numbers = texts.filter_map(|text| text.split_once('.')?.0.parse().ok());
    numbers.next()
}

#[cfg(test)]
mod tests {
    use super::last;

    #[test]
    fn half_a_number_is_none() {
        assert_eq!(
            last("found=7.\nwritten=11.\nwritten=12", "written="),
            Some(11)
        );
        assert_eq!(last("boot", "written="), None);
    }
}
