//! The power fails after every single write to flash, in the middle of it, and
//! again while the store recovers. Each time the store is opened and compared
//! with what it held before the call that was cut off, and with what it was to
//! hold after it: one of the two it must be.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    reason = "tests"
)]

use super::layout::Layout;
use super::simulated::{Flash, Step};
use super::storage::BLOCK;
use super::tests::utf16;
use super::volume::Opened;
use super::{Key, Name, Phase, Storage, Volume};
use uefi_raw::table::runtime::VariableAttributes as A;
use uefi_raw::{Guid, guid};

const VENDOR: Guid = guid!("8be4df61-93ca-11d2-aa0d-00e098032b8c");
/// Small, so that it is rewritten often.
pub const LAYOUT: Layout = Layout::with_spare(6 * BLOCK, 2 * BLOCK);
const NAMES: usize = 16;
const CALLS: usize = if cfg!(miri) { 1 } else { 1200 };

/// What each variable holds.
pub type Content = [Vec<u8>; NAMES];

/// Where the power failed.
#[derive(Clone, Copy, Debug)]
#[expect(dead_code, reason = "printed")]
struct Cut {
    call: usize,
    write: usize,
}

#[derive(Default)]
struct Counts {
    cuts: usize,
    torn: usize,
    in_recovery: usize,
    rewritings: usize,
    emptied: usize,
}

/// Numbers that look random and are the same every time (xorshift).
pub struct Random(pub u32);

impl Random {
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        self.0 as usize % limit
    }
}

fn name(index: usize) -> Vec<u8> {
    utf16(&format!("V{index:02}"))
}

/// Does one call, on the store and on the model of it.
pub fn call(volume: &mut Volume<impl Storage>, content: &mut Content, random: &mut Random) {
    let index = random.below(NAMES);
    let name = name(index);
    let key = Key {
        vendor: VENDOR,
        name: Name::from_buffer(&name).unwrap(),
    };
    let length = match random.below(20) {
        0 => 900,
        _ => 1 + random.below(80),
    };
    let data: Vec<u8> = (0..length).map(|_| random.below(256) as u8).collect();
    let append = random.below(4) == 0;
    if random.below(4) == 0 {
        let removed = volume.remove(key).is_ok();
        assert_eq!(removed, !content[index].is_empty());
        content[index].clear();
    } else if volume.put(key, A::all(), &data, append).is_ok() {
        if !append {
            content[index].clear();
        }
        content[index].extend(data);
    }
}

/// Whether `volume` holds exactly `content`, as a caller finds it.
pub fn holds(volume: &Volume<impl Storage>, content: &Content) -> bool {
    let mut live = volume.records().filter(super::record::Record::is_live);
    let wanted = |index: usize| {
        let name = name(index);
        let name = Name::from_buffer(&name).unwrap();
        let found = volume.find(Key {
            vendor: VENDOR,
            name,
        });
        found.map_or(&[][..], |found| found.data) == content[index]
    };
    let known = |name: &[u8]| {
        let index = usize::from(name[2] - b'0') * 10 + usize::from(name[4] - b'0');
        !content[index].is_empty()
    };
    live.all(|record| known(record.content.name)) && (0..NAMES).all(wanted)
}

/// The power is back: opens `flash`, which must hold one of `contents`.
fn reopen(flash: Flash, contents: [&Content; 2], cut: Cut) -> (Volume<Flash>, Vec<Step>) {
    let mut volume = Volume::new(flash, LAYOUT);
    let opened = volume.open().unwrap();
    assert_ne!(opened, Opened::Formatted, "{cut:?}: the store is gone");
    let right = contents.iter().any(|content| holds(&volume, content));
    assert!(right, "{cut:?}: neither old nor new");
    let opening = volume.storage_mut().steps.len();
    volume.settle().unwrap();
    let steps = volume.storage_mut().steps.clone();
    let right = steps.len() == opening || contents.iter().any(|content| holds(&volume, content));
    assert!(right, "{cut:?}: neither before the next write");
    (volume, steps)
}

/// Opens `flash` at a cut. Of some cuts the recovery is cut off as well, at
/// every write; some stores take one more variable, and then lose all of them.
fn check(mut flash: Flash, contents: [&Content; 2], cut: Cut, counts: &mut Counts) -> Flash {
    let (mut volume, recovery) = reopen(flash, contents, cut);
    let few = recovery.len() < 20 && counts.cuts.is_multiple_of(7);
    let thorough = few || counts.cuts.is_multiple_of(997);
    let in_header = cut.write < 64 && counts.cuts.is_multiple_of(3);
    if in_header || counts.cuts.is_multiple_of(101) {
        let content = contents.into_iter().find(|content| holds(&volume, content));
        go_on(&mut volume, content.unwrap().clone());
        empty(&mut volume);
        counts.emptied += 1;
    }
    flash = volume.into_storage();
    flash.rewind();
    for (at, step) in recovery.iter().enumerate().filter(|_| thorough) {
        flash.tear(step);
        flash = again(flash, contents, cut);
        flash.undo(step);
        flash.apply(step);
        if at.is_multiple_of(recovery.len() / 40 + 1) {
            flash = again(flash, contents, cut);
        }
        counts.in_recovery += 2;
    }
    if thorough {
        recovery.iter().rev().for_each(|step| flash.undo(step));
    }
    flash
}

fn again(flash: Flash, contents: [&Content; 2], cut: Cut) -> Flash {
    let (volume, _) = reopen(flash, contents, cut);
    let mut flash = volume.into_storage();
    flash.rewind();
    flash
}

/// Writes one more variable, and looks whether it and the others are kept.
fn go_on(volume: &mut Volume<Flash>, mut content: Content) {
    let name = name(0);
    let name = Name::from_buffer(&name).unwrap();
    let key = Key {
        vendor: VENDOR,
        name,
    };
    content[0] = b"written afterwards".to_vec();
    if volume.put(key, A::all(), &content[0], false).is_ok() {
        assert!(holds(volume, &content), "it is not written");
        volume.open().unwrap();
        assert!(holds(volume, &content), "it is not kept");
    }
}

/// Deletes all variables and looks for one that comes back.
fn empty(volume: &mut Volume<Flash>) {
    for index in 0..NAMES {
        let name = name(index);
        let name = Name::from_buffer(&name).unwrap();
        let _ = volume.remove(Key {
            vendor: VENDOR,
            name,
        });
    }
    volume.open().unwrap();
    assert!(volume.after(None, Phase::Boot).is_none(), "one came back");
}

#[test]
fn the_power_may_fail_at_every_write() {
    let mut volume = Volume::new(Flash::blank(LAYOUT.size), LAYOUT);
    assert_eq!(volume.open(), Ok(Opened::Formatted));
    let (mut content, mut random) = (Content::default(), Random(0x1234_5678));
    let mut counts = Counts::default();
    for number in 0..CALLS {
        let before = content.clone();
        volume.storage_mut().steps.clear();
        let start = volume.storage_mut().bytes.clone();
        call(&mut volume, &mut content, &mut random);
        let steps = std::mem::take(&mut volume.storage_mut().steps);
        counts.rewritings += usize::from(steps.iter().any(|step| matches!(step, Step::Erase(..))));
        let contents = [&before, &content];
        let mut flash = Flash::new(start);
        for (at, step) in steps.iter().enumerate() {
            let cut = Cut {
                call: number,
                write: at,
            };
            if flash.tear(step) {
                flash = check(flash, contents, cut, &mut counts);
                counts.torn += 1;
            }
            flash.undo(step);
            flash.apply(step);
            flash = check(flash, contents, cut, &mut counts);
            counts.cuts += 1;
        }
        assert_eq!(flash.bytes, volume.storage_mut().bytes);
        let (reopened, _) = reopen(
            flash,
            [&content; 2],
            Cut {
                call: number,
                write: steps.len(),
            },
        );
        assert!(holds(&reopened, &content), "call {number} is lost");
    }
    println!(
        "{CALLS} calls, {} rewritings; cuts: {} after a write, {} within one, {} in recovery; {} stores used on",
        counts.rewritings, counts.cuts, counts.torn, counts.in_recovery, counts.emptied
    );
    assert!(cfg!(miri) || counts.rewritings > 20);
}
