//! The firmware's own words on the command line: calls on the log, services that
//! fail, and what is no such word.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use ovmf_lite_services::catalog;
use xtask::build;
use xtask::qemu::{Files, Machine};
use xtask::trace::Trace;
use xtask::vm::End;

use crate::bench::{Bench, COMMAND_LINE, Release, Root, System};

const SYSTEM: System = System::new(Release::Bookworm, Root::Initrd);

/// None of the words is the kernel's, and variables work without the firmware.
const SCRIPT: &str = "
! grep ovmf-lite /proc/cmdline || exit 1
grep -qw last-word /proc/cmdline || exit 2
variable=/sys/firmware/efi/efivars/Traced-12345678-9abc-def0-0102-030405060708
printf '\\7\\0\\0\\0x' > $variable && [ $(tail -c 1 $variable) = x ]
";

/// What every kernel calls, in this order, among other things.
const CALLS: [&str; 8] = [
    "HandleProtocol LoadedImage SUCCESS",
    "AllocatePages SUCCESS",
    "LocateDevicePath LoadFile2 SUCCESS",
    "HandleProtocol LoadFile2 SUCCESS",
    "LoadFile2.LoadFile BUFFER_TOO_SMALL",
    "LoadFile2.LoadFile SUCCESS",
    "InstallConfigurationTable LinuxInitrd SUCCESS",
    "GetVariable GlobalVariable SUCCESS",
];

/// A machine with `words` for the firmware.
fn machine(bench: &Bench, words: &str) -> Machine {
    Machine {
        command_line: format!("{COMMAND_LINE} {words} last-word"),
        ..bench.machine()
    }
}

/// The calls of a boot are on the log, in order, and words that are none get a line.
///
/// # Errors
/// When they are not, or the kernel sees any of it.
pub fn calls(bench: &Bench) -> Result<()> {
    let words = "ovmf-lite.trace ovmf-lite.tarce ovmf-lite.deny=Nothing";
    let outcome = bench.succeed("trace-calls", machine(bench, words), SYSTEM, SCRIPT)?;
    for complaint in [
        "option ovmf-lite.tarce: expected trace, deny=SERVICE or profile=2016, found `tarce`",
        "option ovmf-lite.deny=Nothing: expected a service such as GetTime, found `Nothing`",
    ] {
        let count = outcome.console.matches(complaint).count();
        ensure!(
            count == 1,
            "expected one `{complaint}`:\n{}",
            outcome.console
        );
    }
    let trace = Trace::read(&outcome.console);
    in_order(&trace).with_context(|| trace.table())
}

fn in_order(trace: &Trace) -> Result<()> {
    let numbers = trace.calls.iter().map(|call| call.number);
    ensure!(
        numbers.eq(1..=u32::try_from(trace.calls.len())?),
        "a number is missing"
    );
    let mut calls = trace.calls.iter().map(|call| {
        let guid = call
            .guid()
            .map(|guid| format!(" {guid}"))
            .unwrap_or_default();
        format!("{}{guid} {}", call.service, call.status)
    });
    for expected in CALLS {
        ensure!(
            calls.any(|call| call == expected),
            "expected `{expected}` here"
        );
    }
    let last = calls.next_back().unwrap_or_default();
    ensure!(
        last == "ExitBootServices SUCCESS",
        "the last call is `{last}`"
    );
    let starts = trace.calls.iter().map(|call| call.start);
    ensure!(starts.is_sorted(), "time goes backwards");
    Ok(())
}

/// The guest application finds nothing wrong with services that are traced, and its
/// images within images are told apart.
///
/// # Errors
/// When it does.
pub fn application(bench: &Bench) -> Result<()> {
    let machine = Machine {
        kernel: Some(build::guest_image()),
        command_line: "ovmf-lite.trace traced".into(),
        ..bench.machine()
    };
    let name = "trace-application";
    let outcome = bench.expect(name, &machine, End::Exited(0), " passed, 0 failed")?;
    let trace = Trace::read(&outcome.console);
    let services: BTreeSet<&str> = trace.calls.iter().map(|call| &*call.service).collect();
    for service in [
        "InstallMultipleProtocolInterfaces",
        "StartImage",
        "Exit",
        "CopyMem",
    ] {
        ensure!(services.contains(service), "expected a call of {service}");
    }
    // All functions of our protocols but LoadFile2's: there is no initrd.
    for (slot, (function, _)) in (catalog::OUTPUT..catalog::SLOTS).map(|s| (s, catalog::service(s)))
    {
        let called = services.contains(function);
        let none = slot == catalog::LOAD_FILE2 || function == "reserved";
        ensure!(called != none, "expected a call of {function}: {}", !none);
    }
    let nested = trace.calls.iter().any(|call| call.depth > 0);
    ensure!(nested, "expected calls within StartImage");
    Ok(())
}

/// Kernels go on without a service they can do without. Nothing is traced then.
///
/// # Errors
/// When they do not, or it is.
pub fn tolerated(bench: &Bench) -> Result<()> {
    let words = "ovmf-lite.deny=FreePool ovmf-lite.deny=LocateProtocol:Rng=DEVICE_ERROR";
    let outcome = bench.succeed("deny-tolerated", machine(bench, words), SYSTEM, SCRIPT)?;
    let calls = Trace::read(&outcome.console).calls;
    ensure!(calls.is_empty(), "expected no trace, found {calls:?}");
    Ok(())
}

/// What is denied stays so when boot services have ended.
///
/// # Errors
/// When the kernel is served.
pub fn at_run_time(bench: &Bench) -> Result<()> {
    let machine = machine(bench, "ovmf-lite.deny=SetVirtualAddressMap");
    let script = "dmesg | grep 'virtual mode (status=8000000000000003)'\n";
    bench.succeed("deny-at-run-time", machine, SYSTEM, script)?;
    Ok(())
}

/// Without a service it needs a kernel says its known words and ends.
///
/// # Errors
/// When it does not.
pub fn mandatory(bench: &Bench) -> Result<()> {
    for (name, words, said) in [
        (
            "deny-mandatory",
            "ovmf-lite.deny=InstallConfigurationTable",
            "Failed to load initrd: 0x8000000000000003",
        ),
        (
            "deny-guid",
            "ovmf-lite.deny=InstallConfigurationTable:LinuxBootMemmap=ACCESS_DENIED",
            "exit_boot() failed!",
        ),
        (
            "profile-2016",
            "ovmf-lite.profile=2016",
            "Failed to get handle for LOADED_IMAGE_PROTOCOL",
        ),
    ] {
        let files = Files::create(&format!("{name}-files"))?;
        let machine = bench.with(machine(bench, words), SYSTEM, SCRIPT, &files)?;
        bench.expect(name, &machine, End::Exited(1), said)?;
        files.remove()?;
    }
    Ok(())
}
