//! A store on a disk: the power fails between any two writes that wait for each
//! other, and the rules for the time after ExitBootServices.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use super::cuts::{Content, LAYOUT, Random, call, holds};
use super::storage::{BLOCK, ERASED, Failed, Storage};
use super::tests::utf16;
use super::volume::Opened;
use super::{Error, Key, Layout, Name, Phase, Variables, Volume, record};
use uefi_raw::table::runtime::VariableAttributes as A;
use uefi_raw::{Guid, guid};

const SECTOR: usize = 512;
const CALLS: usize = if cfg!(miri) { 2 } else { 600 };

/// A disk with an image of it in memory.
struct Disk {
    image: Vec<u8>,
    /// What has lasted since the last [`Storage::sync`].
    lasting: Vec<u8>,
    /// What a power failure may have left, some for each time that was synced.
    cuts: Vec<Vec<u8>>,
    random: Random,
    outlives_boot: bool,
}

impl Disk {
    fn new(image: Vec<u8>) -> Self {
        Self {
            lasting: image.clone(),
            image,
            cuts: Vec::new(),
            random: Random(0x0bad_cafe),
            outlives_boot: false,
        }
    }

    /// The power fails: each sector is old, new, or old from some byte on.
    fn cut(&mut self) -> Vec<u8> {
        let mut left = self.lasting.clone();
        for (left, new) in left.chunks_mut(SECTOR).zip(self.image.chunks(SECTOR)) {
            let until = match self.random.below(3) {
                0 => 0,
                1 => SECTOR,
                _ => self.random.below(SECTOR),
            };
            left[..until].copy_from_slice(&new[..until]);
        }
        left
    }
}

impl Storage for Disk {
    fn bytes(&self) -> &[u8] {
        &self.image
    }

    fn program(&mut self, offset: usize, bytes: &[u8]) -> Result<(), Failed> {
        self.image[offset..][..bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn erase(&mut self, offset: usize) -> Result<(), Failed> {
        self.image[offset..][..BLOCK].fill(ERASED);
        Ok(())
    }

    fn sync(&mut self) -> Result<(), Failed> {
        for _ in 0..4 {
            if self.lasting != self.image {
                let cut = self.cut();
                self.cuts.push(cut);
            }
        }
        self.lasting.clone_from(&self.image);
        Ok(())
    }

    fn outlives_boot(&self) -> bool {
        self.outlives_boot
    }
}

/// The power is back: what a disk has must be one of `contents`. Returns what
/// a second failure would leave meanwhile.
fn reopen(left: Vec<u8>, contents: [&Content; 2], call: usize) -> Vec<Vec<u8>> {
    let mut volume = Volume::new(Disk::new(left), LAYOUT);
    let opened = volume.open().unwrap();
    assert_ne!(opened, Opened::Formatted, "call {call}: the store is gone");
    let right = contents.iter().any(|content| holds(&volume, content));
    assert!(right, "call {call}: neither old nor new");
    volume.into_storage().cuts
}

#[test]
fn the_power_may_fail_between_writes_that_are_mixed_up() {
    let mut volume = Volume::new(Disk::new(vec![0; LAYOUT.size]), LAYOUT);
    assert_eq!(volume.open(), Ok(Opened::Formatted));
    let (mut content, mut random) = (Content::default(), Random(0x1234_5678));
    let (mut first, mut second) = (0, 0);
    for number in 0..CALLS {
        let before = content.clone();
        volume.storage_mut().cuts.clear();
        call(&mut volume, &mut content, &mut random);
        let contents = [&before, &content];
        let mut cuts = std::mem::take(&mut volume.storage_mut().cuts);
        // The last step is done: what is left to do is cut off, too.
        let done = volume.storage_mut().cut();
        reopen(done, [&content; 2], number);
        cuts.push(volume.storage_mut().lasting.clone());
        for left in cuts {
            first += 1;
            for left in reopen(left, contents, number) {
                second += 1;
                reopen(left, contents, number);
            }
        }
    }
    println!("{CALLS} calls, {first} cuts, {second} in recovery");
    assert!(cfg!(miri) || second > 1000);
}

const VENDOR: Guid = guid!("605dab50-e046-4300-abb6-3dd810dd8b23");
const NV: A = A::NON_VOLATILE.union(A::BOOTSERVICE_ACCESS);
const RT: A = NV.union(A::RUNTIME_ACCESS);
const VOLATILE: A = A::BOOTSERVICE_ACCESS.union(A::RUNTIME_ACCESS);

const MEMORY: usize = 8192;

/// Variables on a disk of 128 KiB that keeps what it has.
struct Store(Variables<Disk, MEMORY>);

impl Store {
    fn new(image: Vec<u8>) -> Self {
        let layout = Layout::of_flash(image.len()).unwrap();
        let mut variables = Variables::new();
        variables
            .open(Some(Volume::new(Disk::new(image), layout)))
            .unwrap();
        Self(variables)
    }

    fn blank() -> Self {
        Self::new(vec![ERASED; 0x2_0000])
    }

    fn set(&mut self, phase: Phase, name: &str, attributes: A, data: &[u8]) -> Result<(), Error> {
        self.0.set(phase, key(&utf16(name)), attributes, data)
    }

    fn put(&mut self, name: &str, attributes: A, size: usize) -> Result<(), Error> {
        self.set(Phase::Boot, name, attributes, &vec![7; size])
    }

    fn size(&self, phase: Phase, name: &str) -> Option<usize> {
        let found = self.0.get(phase, key(&utf16(name)));
        found.ok().map(|variable| variable.data.len())
    }

    fn remaining(&self, phase: Phase, attributes: A) -> usize {
        self.0.info(phase, attributes).unwrap().remaining
    }
}

fn key(name: &[u8]) -> Key<'_> {
    Key {
        vendor: VENDOR,
        name: Name::from_buffer(name).unwrap(),
    }
}

#[test]
fn what_was_visible_can_be_read_and_nothing_written_after_boot() {
    let mut store = Store::blank();
    store.put("Kept", RT, 100).unwrap();
    store.put("Boot", NV, 9000).unwrap();
    store.put("Volatile", VOLATILE, 50).unwrap();
    store.0.exit_boot_services();
    for (name, size) in [("Kept", Some(100)), ("Boot", None), ("Volatile", Some(50))] {
        assert_eq!(store.size(Phase::Runtime, name), size, "{name}");
    }
    for (name, attributes) in [
        ("Kept", RT),
        ("New", RT),
        ("Boot", NV),
        ("Volatile", VOLATILE),
    ] {
        for data in [&b"new"[..], b""] {
            let result = store.set(Phase::Runtime, name, attributes, data);
            assert_eq!(result, Err(Error::Frozen), "{name}");
        }
    }
    assert_eq!(store.size(Phase::Runtime, "Kept"), Some(100));
    assert_eq!(store.remaining(Phase::Runtime, RT), 0);
    let empty = key(&[0, 0]);
    let first = store.0.next(Phase::Runtime, empty).unwrap();
    let first = first.name.to_vec();
    let second = store.0.next(Phase::Runtime, key(&first)).unwrap();
    let second = second.name.to_vec();
    assert_eq!([&first, &second], [&utf16("Volatile"), &utf16("Kept")]);
    let end = store.0.next(Phase::Runtime, key(&second));
    assert_eq!(end, Err(Error::NotFound));
}

#[test]
fn nothing_is_taken_that_could_not_be_kept() {
    let mut store = Store::blank();
    let all = store.remaining(Phase::Boot, RT);
    assert_eq!(store.0.info(Phase::Boot, RT).unwrap().storage, all);
    assert!(all < MEMORY && store.remaining(Phase::Boot, NV) > MEMORY);
    store.put("Kept", RT, 5000).unwrap();
    let left = store.remaining(Phase::Boot, RT);
    assert_eq!(left, all - record::size(10, 5000));
    assert_eq!(store.remaining(Phase::Boot, VOLATILE), left);
    // Neither of the two gets more than that, by itself or by growing.
    let largest = store.0.info(Phase::Boot, RT).unwrap().largest - 4;
    for attributes in [RT, VOLATILE] {
        let full = store.put("N", attributes, largest + 1);
        assert!(matches!(full, Err(Error::Full(_))));
        store.put("N", attributes, largest - 100).unwrap();
        let full = store.set(Phase::Boot, "N", attributes | A::APPEND_WRITE, &[1; 101]);
        assert!(matches!(full, Err(Error::Full(_))));
        store
            .set(Phase::Boot, "N", attributes | A::APPEND_WRITE, &[1; 100])
            .unwrap();
        assert!(store.remaining(Phase::Boot, RT) < 4);
        store.set(Phase::Boot, "N", attributes, &[]).unwrap();
    }
    // What is not visible later has all of the disk.
    store.put("Boot", NV, 20_000).unwrap();
    assert_eq!(store.remaining(Phase::Boot, RT), left);
    store.put("N", VOLATILE, largest).unwrap();
    assert_eq!(store.0.out_of_room(), 0);
    store.0.exit_boot_services();
    assert_eq!(store.size(Phase::Runtime, "Kept"), Some(5000));
    assert_eq!(store.size(Phase::Runtime, "N"), Some(largest));
}

#[test]
fn nothing_on_a_disk_takes_the_place_of_the_firmwares_own() {
    let mut store = Store::blank();
    store.put("Own", RT, 100).unwrap();
    store.put("Kept", RT, 100).unwrap();
    let own = utf16("Own");
    let memory = &mut store.0.memory;
    memory.put(key(&own), VOLATILE, b"true", false).unwrap();
    store.0.exit_boot_services();
    assert_eq!(store.size(Phase::Runtime, "Own"), Some(4));
    assert_eq!(store.size(Phase::Runtime, "Kept"), Some(100));
}

#[test]
fn a_store_that_is_too_full_keeps_what_fits_and_says_so() {
    let mut full = Store::blank();
    full.0.flash_mut().unwrap().outlives_boot = true;
    for (name, size) in [("A", 5000), ("B", 5000), ("C", 1000), ("Boot", 9000)] {
        let attributes = if name == "Boot" { NV } else { RT };
        full.put(name, attributes, size).unwrap();
    }
    let mut store = Store::new(full.0.flash_mut().unwrap().image.clone());
    assert_eq!(store.0.out_of_room(), 1);
    assert_eq!(store.remaining(Phase::Boot, RT), 0);
    assert!(store.put("D", RT, 1).is_err() && store.put("D", VOLATILE, 1).is_err());
    // Before, all of them are there, and may become smaller.
    assert_eq!(store.size(Phase::Boot, "B"), Some(5000));
    store.put("C", RT, 999).unwrap();
    store.0.exit_boot_services();
    for (name, size) in [("A", Some(5000)), ("B", None), ("C", Some(999))] {
        assert_eq!(store.size(Phase::Runtime, name), size, "{name}");
    }
}

#[test]
fn a_store_that_stays_is_written_on() {
    let mut store = Store::blank();
    store.0.flash_mut().unwrap().outlives_boot = true;
    store.0.exit_boot_services();
    assert_eq!(store.set(Phase::Runtime, "New", RT, b"new"), Ok(()));
}

#[test]
fn a_store_is_known_by_its_beginning() {
    for size in [0x2_0000, 0x8_4000] {
        let store = Store::new(vec![0; size]);
        let mut image = store.0.flash.unwrap().into_storage().image;
        let layout = Layout::of_flash(size);
        assert_eq!(Layout::of_volume(&image[..SECTOR]), layout);
        for damaged in [16, 32, 40, 56, 80] {
            image[damaged] ^= 1;
            assert_eq!(Layout::of_volume(&image[..SECTOR]), None, "{damaged}");
            image[damaged] ^= 1;
        }
    }
    assert_eq!(Layout::of_volume(&[ERASED; SECTOR]), None);
    assert_eq!(Layout::of_volume(b"short"), None);
}
