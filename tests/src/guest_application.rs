//! The guest application, an EFI application that tests the firmware from the
//! inside: on bare machines, and with an initrd.
//!
//! QEMU passes an initrd on only along with a Linux kernel (hw/i386/x86.c), so
//! for that case the application gets the setup header of one.

use std::fs;
use std::io::Write;
use std::os::unix::net::UnixStream;

use anyhow::{Context, Result, ensure};
use xtask::build;
use xtask::qemu::{Console, Files, Machine, Wrapping};
use xtask::vm::{Echo, End, Vm};

use crate::bench::{Bench, TIME_LIMIT};
use crate::pe_file::{self, get, put};

/// What the application ends with when all went well.
pub(crate) const SUCCESS: &str = " passed, 0 failed";

/// Runs the application on machine `model`, with several processors on one that
/// has no other test with them.
///
/// # Errors
/// When one of its checks fails, or it does not get to the end.
pub fn run(bench: &Bench, model: &str, memory: &str) -> Result<()> {
    let machine = Machine {
        model: model.into(),
        memory: memory.into(),
        processors: if model == "microvm" { 4 } else { 1 },
        kernel: Some(build::guest_image()),
        command_line: host_words(model).into(),
        ..bench.machine()
    };
    bench.expect(
        &format!("guest-application-{model}"),
        &machine,
        End::Exited(0),
        SUCCESS,
    )?;
    Ok(())
}

/// What the application has to be told of a machine: QEMU makes no SMBIOS tables
/// for a microvm.
fn host_words(model: &str) -> &'static str {
    if model.starts_with("microvm") {
        "no-smbios"
    } else {
        ""
    }
}

/// Runs the application's checks of the clock, with the host's clock at `base`.
///
/// # Errors
/// When one of its checks fails.
pub fn clock(bench: &Bench, model: &str, base: &str) -> Result<()> {
    let year = base.split('-').next().unwrap_or_default();
    let machine = Machine {
        model: model.into(),
        kernel: Some(build::guest_image()),
        command_line: format!("clock year={year} {}", host_words(model)),
        extra: ["-rtc", &format!("base={base}")].map(Into::into).into(),
        ..bench.machine()
    };
    let name = format!("clock-{model}-{year}");
    let words = "ok 8.3 clock: a century passes";
    let outcome = bench.expect(&name, &machine, End::Exited(0), words)?;
    ensure!(outcome.console.contains(SUCCESS), "{}", outcome.console);
    Ok(())
}

/// Has the application reset the machine by `words` of its options, and expects
/// it to start again; `shutdown` has to end it instead.
///
/// # Errors
/// When the machine does anything else.
pub fn reset(bench: &Bench, model: &str, wrapping: Wrapping, words: &str) -> Result<()> {
    let machine = Machine {
        model: model.into(),
        wrapping,
        kernel: Some(build::guest_image()),
        command_line: words.into(),
        resets: true,
        ..bench.machine()
    };
    let name = format!("reset-{model}-{}", words.replace([' ', '='], "-"));
    let said = format!("guest: {}", words.split(' ').next().unwrap_or_default());
    if words.contains("shutdown") {
        let outcome = bench.expect(&name, &machine, End::Exited(0), &said)?;
        let starts = outcome.console.matches(&said).count();
        ensure!(starts == 1, "it started {starts} times");
        return Ok(());
    }
    bench.watch(&name, &machine, |console| {
        console.matches(&said).count() >= 2
    })
}

/// Has the application read where no memory is, and expects the whole report.
///
/// # Errors
/// When a part of the report is missing, or the machine goes on.
pub fn fault(bench: &Bench) -> Result<()> {
    let machine = Machine {
        kernel: Some(build::guest_image()),
        command_line: "fault".into(),
        ..bench.machine()
    };
    let report = "exception 14: page fault, error code 0x0";
    let outcome = bench.expect("exception", &machine, End::Exited(1), report)?;
    // The address that `tests/guest/src/ports.rs` reads.
    for part in ["rip 0000", "cr2 0000123456789000", "rsp 0000", "r15 "] {
        ensure!(
            outcome.console.contains(part),
            "expected `{part}` in:\n{}",
            outcome.console
        );
    }
    Ok(())
}

/// Has the application do what it said may not be done with a page, and expects
/// the processor to say so.
///
/// # Errors
/// When the page fault does not come, or has another reason.
pub fn violate(bench: &Bench, what: &str, reason: u32) -> Result<()> {
    let machine = Machine {
        kernel: Some(build::guest_image()),
        command_line: format!("violate={what}"),
        ..bench.machine()
    };
    let name = format!("exception-{what}");
    let report = format!("exception 14: page fault, error code {reason:#x}");
    bench.expect(&name, &machine, End::Exited(1), &report)?;
    Ok(())
}

/// What a terminal sends, and what the application makes of it: a scan code and a
/// character in hexadecimal, and one key that it has also registered for.
const KEYS: (&[u8], [&str; 8]) = (
    b"a\r\x1b[A\x1bOD\x1b[3~\x7fxq",
    [
        "key 0 61", "key 0 d", "key 1 0", "key 4 0", "key 8 0", "key 0 8", "key 0 78", "key 0 71",
    ],
);

/// Presses keys while the application waits for some.
///
/// # Errors
/// When others arrive, or none.
pub fn keys(bench: &Bench) -> Result<()> {
    let files = Files::create("keyboard")?;
    let socket = files.directory().join("keyboard");
    let machine = Machine {
        kernel: Some(build::guest_image()),
        command_line: "keys".into(),
        keyboard: Some(socket.clone()),
        ..bench.machine()
    };
    let mut vm = Vm::start(&machine, &files, Console::File)?;
    vm.wait_for(TIME_LIMIT, |console| console.contains("guest: keys"))?;
    let (bytes, expected) = KEYS;
    // Kept until the end: QEMU forgets what a client sent that is gone.
    let mut keyboard = UnixStream::connect(socket)?;
    keyboard.write_all(bytes)?;
    let outcome = vm.wait(Some(TIME_LIMIT), Echo::Nothing)?;
    let lines: Vec<_> = outcome.console.lines().collect();
    let heard = lines
        .iter()
        .filter_map(|line| line.trim().strip_prefix("guest: "));
    let keys: Vec<_> = heard
        .clone()
        .filter(|line| line.starts_with("key "))
        .collect();
    ensure!(keys == expected, "expected {expected:?}, found {lines:#?}");
    let told = heard.filter(|line| *line == "heard 78").count();
    ensure!(told == 1, "x was told {told} times");
    ensure!(outcome.end == End::Exited(0), "{:?}", outcome.end);
    files.remove()
}

/// Runs the application with an initrd, of which it is told on its command line.
///
/// # Errors
/// When one of its checks fails, or it does not get to the end.
pub fn run_with_initrd(bench: &Bench) -> Result<()> {
    let name = "guest-application-initrd";
    let files = Files::create(&format!("{name}-files"))?;
    let kernel = files.directory().join("kernel");
    let initrd = files.directory().join("initrd");
    let application = build::guest_image();
    let bytes =
        fs::read(&application).with_context(|| format!("cannot read {}", application.display()))?;
    fs::write(&kernel, with_setup_header(&bytes)?)?;
    // No multiple of anything: sizes have to be exact.
    fs::write(&initrd, [0x5a; 1_000_003])?;
    let machine = Machine {
        kernel: Some(kernel),
        initrd: Some(initrd),
        command_line: "initrd".into(),
        ..bench.machine()
    };
    bench.expect(name, &machine, End::Exited(0), SUCCESS)?;
    files.remove()
}

/// Size of the headers that replace those of the application, also the size of
/// the setup part as QEMU sees it.
const HEADERS: usize = 0x1000;
/// Where the PE headers go: behind the setup header.
const SIGNATURE: usize = 0x400;

/// `application` with the setup header of a Linux kernel in front of its own
/// headers: Linux, Documentation/arch/x86/boot.rst.
fn with_setup_header(application: &[u8]) -> Result<Vec<u8>> {
    let (signature, sections) = pe_file::layout(application)?;
    let count = get(application, signature + pe_file::SECTION_COUNT, 2)?;
    let headers = get(application, signature + pe_file::HEADERS_SIZE, 4)?;
    let end = sections + count * pe_file::SECTION_ENTRY;
    ensure!(
        headers <= HEADERS && end <= headers,
        "the application's headers are too large"
    );
    let mut image = vec![0; HEADERS];
    put(&mut image, 0, b"MZ")?;
    put(
        &mut image,
        pe_file::SIGNATURE_POINTER,
        &u32::try_from(SIGNATURE)?.to_le_bytes(),
    )?;
    put(&mut image, SIGNATURE, &application[signature..end])?;
    let headers_size = u32::try_from(HEADERS)?.to_le_bytes();
    put(&mut image, SIGNATURE + pe_file::HEADERS_SIZE, &headers_size)?;
    for index in 0..count {
        let entry = SIGNATURE + sections - signature + index * pe_file::SECTION_ENTRY;
        let pointer = get(&image, entry + pe_file::RAW_POINTER, 4)?;
        let moved = u32::try_from(pointer + HEADERS - headers)?;
        put(
            &mut image,
            entry + pe_file::RAW_POINTER,
            &moved.to_le_bytes(),
        )?;
    }
    put_setup_header(&mut image)?;
    image.extend_from_slice(&application[headers..]);
    Ok(image)
}

fn put_setup_header(image: &mut [u8]) -> Result<()> {
    let setup_sectors = u8::try_from(HEADERS / 512 - 1)?;
    put(image, 0x1f1, &[setup_sectors])?;
    put(image, 0x1fe, &0xaa55_u16.to_le_bytes())?;
    put(image, 0x202, b"HdrS")?;
    let version = 0x020f_u16;
    put(image, 0x206, &version.to_le_bytes())?;
    let loaded_high = 1;
    put(image, 0x211, &[loaded_high])?;
    let initrd_addr_max = 0x7fff_ffff_u32;
    put(image, 0x22c, &initrd_addr_max.to_le_bytes())
}

#[cfg(test)]
mod tests {
    use ovmf_lite_loader::pe::Image;

    use super::*;

    /// A PE32+ image with headers of 0x200 bytes and one section.
    fn application() -> Vec<u8> {
        let mut file = vec![0; 0x400];
        let signature = 0x78;
        let mut optional_header = vec![0; 240];
        let words = [
            (0, 0x20b_u32),
            (16, 0x1000),
            (32, 0x1000),
            (36, 0x200),
            (56, 0x2000),
        ];
        for (at, value) in words.into_iter().chain([(60, 0x200), (68, 10), (108, 16)]) {
            put(&mut optional_header, at, &value.to_le_bytes()).unwrap();
        }
        let section = [0x1000_u32, 0x1000, 0x200, 0x200]
            .map(u32::to_le_bytes)
            .concat();
        put(&mut file, 0, b"MZ").unwrap();
        put(&mut file, 0x3c, &0x78_u32.to_le_bytes()).unwrap();
        put(&mut file, signature, b"PE\0\0\x64\x86\x01\0").unwrap();
        put(&mut file, signature + 20, &[240, 0, 2, 0]).unwrap();
        put(&mut file, signature + 24, &optional_header).unwrap();
        put(&mut file, signature + 24 + 240, b".text\0\0\0").unwrap();
        put(&mut file, signature + 24 + 240 + 8, &section).unwrap();
        put(
            &mut file,
            signature + 24 + 240 + 36,
            &0x6000_0020_u32.to_le_bytes(),
        )
        .unwrap();
        file[0x200..].fill(0xc3);
        file
    }

    #[test]
    fn the_application_is_the_same_with_other_headers() {
        let application = application();
        let moved = with_setup_header(&application).unwrap();
        assert_eq!(moved[0x202..0x206], *b"HdrS");
        assert_eq!(moved.len(), HEADERS + 0x200);
        let before = Image::parse(&application).unwrap();
        let after = Image::parse(&moved).unwrap();
        assert_eq!(
            (before.size(), before.entry()),
            (after.size(), after.entry())
        );
        let raw = |image: &Image| image.sections().map(|s| s.raw.to_vec()).collect::<Vec<_>>();
        assert_eq!(raw(&before), raw(&after));
    }
}
