//! A store in flash without room: what the services say then, and what it costs
//! at boot, be it full of variables or of what is left of them.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail, ensure};
use ovmf_lite_services::variables::{
    BLOCK, Error, Failed, Key, Layout, Name, Phase, Storage, Variables, Volume,
};
use uefi_raw::table::runtime::VariableAttributes;
use uefi_raw::{Guid, guid};
use xtask::accel::Accelerator;
use xtask::build;
use xtask::qemu::Files;
use xtask::vm::End;

use crate::bench::Bench;
use crate::variables::{machine, template};

/// The vendor of the guest application's variables, `tests/guest/src/variables.rs`.
const VENDOR: Guid = guid!("1d3b7c52-8e0f-4a96-b127-65fa309ce84b");

/// What a full store may cost at boot beyond an empty one, in percent.
const MOST: u64 = 10;

/// Flash, as bytes of a file.
struct Image {
    bytes: Vec<u8>,
    /// Whether a block has been erased: the store has been rewritten.
    erased: bool,
}

impl Storage for Image {
    fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn program(&mut self, offset: usize, bytes: &[u8]) -> Result<(), Failed> {
        let room = self.bytes.get_mut(offset..).ok_or(Failed)?;
        let room = room.get_mut(..bytes.len()).ok_or(Failed)?;
        room.copy_from_slice(bytes);
        Ok(())
    }

    fn erase(&mut self, offset: usize) -> Result<(), Failed> {
        self.erased = true;
        let block = self.bytes.get_mut(offset..).ok_or(Failed)?;
        block.get_mut(..BLOCK).ok_or(Failed)?.fill(0xff);
        Ok(())
    }
}

/// What a store is full of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content {
    /// What is in the template.
    Little,
    /// Variables.
    Variables,
    /// Replaced values of one variable, such that the next write rewrites all.
    Remains,
}

/// The store of a machine that has run once, with `content` in it.
fn filled(template: Vec<u8>, content: Content) -> Result<Vec<u8>> {
    let layout = Layout::of_flash(template.len()).context("a store's size")?;
    let image = Image {
        bytes: template,
        erased: false,
    };
    let mut store = Variables::<Image, BLOCK>::new();
    store
        .open(Some(Volume::new(image, layout)))
        .map_err(|error| anyhow!("{error}"))?;
    store.publish();
    let mut number = 0;
    loop {
        let flash = store.flash_mut().context("no flash")?;
        let before = flash.bytes.clone();
        let written = match content {
            Content::Little => return Ok(before),
            Content::Variables => set(&mut store, &format!("F{number:04}"), b'f'),
            Content::Remains => set(&mut store, "R", b'a' + u8::try_from(number % 7)?),
        };
        match written {
            Ok(()) => number += 1,
            Err(Error::Full { .. }) => return Ok(before),
            Err(error) => bail!("{error}"),
        }
        if content == Content::Remains && store.flash_mut().is_some_and(|flash| flash.erased) {
            return Ok(before);
        }
    }
}

/// Writes one byte: the smallest variables are the most of them.
fn set(store: &mut Variables<Image, BLOCK>, name: &str, value: u8) -> Result<(), Error> {
    let units = name.encode_utf16().chain([0]);
    let bytes: Vec<_> = units.flat_map(u16::to_le_bytes).collect();
    let name = Name::from_buffer(&bytes).ok_or(Error::EmptyName)?;
    let vendor = VENDOR;
    let attributes = VariableAttributes::NON_VOLATILE
        | VariableAttributes::BOOTSERVICE_ACCESS
        | VariableAttributes::RUNTIME_ACCESS;
    store.set(Phase::Boot, Key { vendor, name }, attributes, &[value])
}

/// Boots on stores in Debian's template `name`, empty and full of either, and
/// compares how many instructions it is to the guest application's entry; on one
/// full of variables the application tries to write more.
///
/// # Errors
/// When a check fails, or a full store costs more than [`MOST`] percent.
pub fn run(bench: &Bench, name: &str) -> Result<()> {
    let files = Files::create(&format!("space-{name}"))?;
    let store = template(&files, name)?;
    let template = fs::read(&store)?;
    let boot = |content, words: &str| {
        fs::write(&store, filled(template.clone(), content)?)?;
        entry(bench, &store, &format!("space-{name}-{content:?}"), words)
    };
    let little = boot(Content::Little, "stamp")?;
    for (content, words) in [
        (Content::Variables, "stamp full"),
        (Content::Remains, "stamp"),
    ] {
        let full = boot(content, words)?;
        println!("{name}: {little} ns of instructions, full of {content:?} {full} ns");
        ensure!(
            full <= little + little * MOST / 100,
            "expected at most {MOST} % more than {little} with a store full of {content:?}, found {full}"
        );
    }
    files.remove()
}

/// Where the time stamp counter is at the entry of the guest application, which
/// has to pass its checks: time passes by instructions, 8 ns each.
fn entry(bench: &Bench, store: &Path, name: &str, words: &str) -> Result<u64> {
    let mut machine = machine(bench, store, None);
    machine.accelerator = Accelerator::Tcg;
    machine.kernel = Some(build::guest_image());
    machine.command_line = words.into();
    let icount = ["-icount", "shift=3,sleep=off"].map(Into::into);
    machine.extra.extend(icount);
    let outcome = bench.expect(name, &machine, End::Exited(0), " passed, 0 failed")?;
    let entered = outcome.console.split_once("entered at ");
    let number = entered.and_then(|(_, rest)| rest.split_once('.'));
    let (number, _) = number.context("no time stamp")?;
    Ok(number.parse()?)
}
