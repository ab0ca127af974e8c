//! Stores that others have made, left half done, or damaged.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "tests"
)]

use super::layout::{FIRST, Layout};
use super::simulated::{Flash, Step};
use super::storage::is_blank;
use super::tests::utf16;
use super::volume::Opened;
use super::{Error, Key, Name, Phase, Variables, Volume};
use proptest::prelude::*;
use uefi_raw::table::runtime::VariableAttributes as A;
use uefi_raw::{Guid, guid};

/// The first bytes of Debian's OVMF_VARS.fd, less the zeros they begin with.
const HEADERS_128K: &str = "8d2bf1ff96768b4ca9852747075b4f5000000200000000005f465648fffe0400\
    480019f90000000220000000001000000000000000000000782cf3aa7b949a43a1802e144ec37792\
    b8df00005afe000000000000";
/// Those of its OVMF_VARS_4M.fd.
const HEADERS_528K: &str = "8d2bf1ff96768b4ca9852747075b4f5000400800000000005f465648fffe0400\
    4800afb80000000284000000001000000000000000000000782cf3aa7b949a43a1802e144ec37792\
    b8ff03005afe000000000000";
/// What both have where the working block is.
const WORKING: &str = "2b29589e687c7d49a0ce6500fd9f1b952caf2c64feffffffe00f000000000000";

/// What EDK2 queues to rewrite the variables of a 128 KiB store: header and
/// record, the new content complete in the spare area, the target not.
const PENDING: &str = "fcffffffcaea5cfe724fe849986f2cd899dffe5dffffffff01000000000000000000000000000000\
    fdffffffffffffff00000000000000004800000000000000b8df0000000000000000ffffffffffff";

const VENDOR: Guid = guid!("8be4df61-93ca-11d2-aa0d-00e098032b8c");
const NV_BS_RT: A = A::from_bits_retain(7);
const LAYOUT: Layout = Layout::of_flash(0x2_0000).unwrap();

fn bytes(hex: &str) -> Vec<u8> {
    let digits = hex.as_bytes().chunks(2);
    let byte = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.map(byte).collect()
}

fn key(name: &[u8]) -> Key<'_> {
    Key {
        vendor: VENDOR,
        name: Name::from_buffer(name).unwrap(),
    }
}

fn open(flash: Flash, layout: Layout) -> (Volume<Flash>, Opened) {
    let mut volume = Volume::new(flash, layout);
    let opened = volume.open().unwrap();
    (volume, opened)
}

/// A store with the variable `V`.
fn store() -> Flash {
    let (mut volume, _) = open(Flash::blank(LAYOUT.size), LAYOUT);
    volume
        .put(key(&utf16("V")), NV_BS_RT, b"data", false)
        .unwrap();
    let mut flash = volume.into_storage();
    flash.steps.clear();
    flash
}

#[test]
#[cfg_attr(miri, ignore = "much to copy")]
fn a_formatted_store_is_the_template() {
    for (size, working, headers) in [
        (0x2_0000, 0xf000, HEADERS_128K),
        (0x8_4000, 0x4_1000, HEADERS_528K),
    ] {
        let layout = Layout::of_flash(size).unwrap();
        let (volume, opened) = open(Flash::blank(size), layout);
        assert_eq!(opened, Opened::Formatted);
        let mut template = vec![0xff; size];
        template[..16].fill(0);
        template[16..FIRST].copy_from_slice(&bytes(headers));
        template[working..working + 32].copy_from_slice(&bytes(WORKING));
        let flash = volume.into_storage();
        assert!(flash.bytes == template, "{size:#x}");
        let (volume, opened) = open(Flash::new(template), layout);
        assert_eq!(opened, Opened::Kept);
        assert!(volume.into_storage().steps.is_empty(), "it was written to");
    }
    assert_eq!(Layout::of_flash(0x1_0000), None);
}

#[test]
fn what_edk2_has_left_half_done_is_finished() {
    let mut flash = store();
    let content = flash.bytes[..0xe000].to_vec();
    flash.bytes[0x1_0000..0x1_e000].copy_from_slice(&content);
    flash.bytes[0xf020..0xf070].copy_from_slice(&bytes(PENDING));
    flash.bytes[..0x3000].fill(0xff);
    let (volume, opened) = open(flash, LAYOUT);
    assert_eq!(opened, Opened::Resumed);
    assert_eq!(volume.find(key(&utf16("V"))).unwrap().data, b"data");
    let flash = volume.into_storage();
    assert!(flash.bytes[..0xe000] == content);
    assert!(is_blank(&flash.bytes[0x1_0000..]));
    assert_eq!([flash.bytes[0xf020], flash.bytes[0xf048]], [0xf8, 0xf9]);
    let (_, opened) = open(flash, LAYOUT);
    assert_eq!(opened, Opened::Kept);
}

#[test]
fn what_edk2_has_not_really_begun_is_dropped() {
    let mut flash = store();
    flash.bytes[0xf020..0xf070].copy_from_slice(&bytes(PENDING));
    flash.bytes[0xf048] = 0xff;
    let (volume, opened) = open(flash, LAYOUT);
    assert_eq!(opened, Opened::Kept);
    assert!(volume.find(key(&utf16("V"))).is_some());
    assert_eq!(volume.into_storage().bytes[0xf020], 0xf8);
}

#[test]
#[cfg_attr(miri, ignore = "much to copy")]
fn what_is_to_be_rewritten_is_queued_as_edk2_does() {
    let (mut volume, _) = open(store(), LAYOUT);
    let large = vec![1; LAYOUT.capacity() / 2];
    for _ in 0..2 {
        let data = [&large[..], &[volume.end as u8]].concat();
        volume
            .put(key(&utf16("L")), NV_BS_RT, &data, false)
            .unwrap();
    }
    let flash = volume.into_storage();
    let mut expected = bytes(PENDING);
    // Complete, and by somebody else.
    (expected[0], expected[40]) = (0xf8, 0xf9);
    let found = &flash.bytes[0xf020..0xf070];
    expected[4..20].copy_from_slice(&found[4..20]);
    assert_eq!(found, expected);
    assert!(is_blank(&flash.bytes[0x1_0000..]));
}

#[test]
#[cfg_attr(miri, ignore = "much to copy")]
fn a_full_queue_makes_room() {
    let (mut volume, _) = open(store(), LAYOUT);
    let name = utf16("L");
    for round in 0..120u8 {
        let data = vec![round; LAYOUT.capacity() * 2 / 3];
        volume.put(key(&name), NV_BS_RT, &data, false).unwrap();
        assert_eq!(volume.find(key(&name)).unwrap().data, data);
    }
    let (volume, opened) = open(volume.into_storage(), LAYOUT);
    assert_eq!(opened, Opened::Kept);
    assert_eq!(volume.find(key(&utf16("V"))).unwrap().data, b"data");
}

#[test]
#[cfg_attr(miri, ignore = "much to copy")]
fn one_write_rewrites_the_store_once_and_a_deletion_never() {
    let (mut volume, _) = open(store(), LAYOUT);
    let fill = vec![1; LAYOUT.capacity() - 300];
    volume
        .put(key(&utf16("L")), NV_BS_RT, &fill, false)
        .unwrap();
    let erasures = |volume: &mut Volume<Flash>| {
        let steps = std::mem::take(&mut volume.storage_mut().steps);
        steps
            .iter()
            .filter(|step| matches!(step, Step::Erase(..)))
            .count()
    };
    for round in 0..10u8 {
        volume
            .put(key(&utf16("V")), NV_BS_RT, &[round; 90], false)
            .unwrap();
        // Variables, the same once more in the spare area, a full queue.
        assert!(erasures(&mut volume) <= 0xe + 0xe + 1);
    }
    volume.remove(key(&utf16("L"))).unwrap();
    assert_eq!(erasures(&mut volume), 0);
}

#[test]
fn flash_that_takes_no_writes_can_be_read() {
    let mut flash = store();
    flash.writable = false;
    let mut variables = Variables::<Flash, 4096>::new();
    let opened = variables.open(Some(Volume::new(flash, LAYOUT)));
    assert_eq!(opened, Ok(Opened::Kept));
    let name = utf16("V");
    assert_eq!(
        variables.get(Phase::Boot, key(&name)).unwrap().data,
        b"data"
    );
    let set = variables.set(Phase::Boot, key(&name), NV_BS_RT, b"other");
    assert_eq!(set, Err(Error::Storage));
    assert_eq!(
        variables.get(Phase::Boot, key(&name)).unwrap().data,
        b"data"
    );

    let mut flash = Flash::blank(LAYOUT.size);
    flash.writable = false;
    let mut variables = Variables::<Flash, 4096>::new();
    let opened = variables.open(Some(Volume::new(flash, LAYOUT)));
    assert_eq!(opened, Err(Error::Storage));
    assert_eq!(
        variables.set(Phase::Boot, key(&name), NV_BS_RT, b"x"),
        Ok(())
    );
}

#[test]
fn signed_variables_are_seen_and_not_touched() {
    let (mut volume, _) = open(store(), LAYOUT);
    let signed = NV_BS_RT | A::TIME_BASED_AUTHENTICATED_WRITE_ACCESS;
    let name = utf16("db");
    volume.put(key(&name), signed, b"keys", false).unwrap();
    let mut variables = Variables::<Flash, 4096>::new();
    variables.open(Some(volume)).unwrap();
    let found = variables.get(Phase::Runtime, key(&name)).unwrap();
    assert_eq!((found.attributes, found.data), (signed, &b"keys"[..]));
    variables.flash_mut().unwrap().steps.clear();
    let mut set =
        |attributes, data: &[u8]| variables.set(Phase::Boot, key(&name), attributes, data);
    assert_eq!(set(NV_BS_RT, b"x"), Err(Error::AttributesDiffer));
    assert_eq!(set(NV_BS_RT, b""), Err(Error::AttributesDiffer));
    assert_eq!(set(A::empty(), b""), Err(Error::Signed));
    assert_eq!(set(signed, b"x"), Err(Error::NoDescriptor));
    assert!(variables.flash_mut().unwrap().steps.is_empty());
}

#[test]
fn volatile_variables_never_reach_the_flash() {
    let mut variables = Variables::<Flash, 4096>::new();
    variables.open(Some(Volume::new(store(), LAYOUT))).unwrap();
    let name = utf16("T");
    let volatile = A::BOOTSERVICE_ACCESS;
    variables
        .set(Phase::Boot, key(&name), volatile, b"x")
        .unwrap();
    assert!(variables.flash_mut().unwrap().steps.is_empty());
}

proptest! {
    #[test]
    #[cfg_attr(miri, ignore = "much to copy")]
    fn a_damaged_store_is_usable(
        damage in prop::collection::vec((0usize..0x1_2000, any::<u8>()), 1..40),
        near in prop::collection::vec((0usize..0xc0, any::<u8>()), 0..4),
    ) {
        let mut flash = store();
        for (at, value) in damage.into_iter().chain(near) {
            flash.bytes[at] = value;
        }
        let mut variables = Variables::<Flash, 4096>::new();
        variables.open(Some(Volume::new(flash, LAYOUT))).unwrap();
        let name = utf16("New");
        variables.set(Phase::Boot, key(&name), NV_BS_RT, b"new").unwrap();
        let flash = Flash::new(variables.flash_mut().unwrap().bytes.clone());
        let (volume, opened) = open(flash, LAYOUT);
        prop_assert_eq!(opened, Opened::Kept);
        prop_assert_eq!(volume.find(key(&name)).unwrap().data, b"new");
    }
}
