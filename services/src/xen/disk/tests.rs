//! A back end that does what `blkif.h` says, and some that do not.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "a test that goes wrong should panic where it does"
)]

use super::super::simulated::Page;
use super::super::xenstore::tests::{Behaviour, Nodes, with};
use super::*;
use proptest::prelude::*;
use std::cell::{Cell, RefCell};

const GRANT: u32 = 8;
const PORT: u32 = 17;
const STATE: &str = "/local/domain/0/backend/vbd/1/51712/state";
const OURS: &str = "device/vbd/51712/state";

/// What a domain with one disk of 9 MiB and a CD-ROM drive finds in xenstore.
const NODES: [(&str, &str); 14] = [
    (
        "device/vbd/51712/backend",
        "/local/domain/0/backend/vbd/1/51712",
    ),
    ("device/vbd/51712/backend-id", "0"),
    ("device/vbd/51712/device-type", "disk"),
    (OURS, "1"),
    (
        "device/vbd/5632/backend",
        "/local/domain/0/backend/vbd/1/5632",
    ),
    ("device/vbd/5632/backend-id", "0"),
    ("device/vbd/5632/device-type", "cdrom"),
    // Its back end has gone.
    ("device/vbd/768/backend-id", "0"),
    ("/local/domain/0/backend/vbd/1/51712/dev", "xvda"),
    (STATE, "2"),
    ("/local/domain/0/backend/vbd/1/51712/sectors", "18432"),
    ("/local/domain/0/backend/vbd/1/51712/sector-size", "512"),
    ("/local/domain/0/backend/vbd/1/51712/feature-barrier", "1"),
    (
        "/local/domain/0/backend/vbd/1/51712/feature-flush-cache",
        "1",
    ),
];

/// The states of Linux' and QEMU's back ends.
fn follow(nodes: &mut Nodes, path: &str) {
    let ours = nodes.get(OURS).cloned();
    let theirs = match (path, ours.as_deref(), nodes[STATE].as_str()) {
        (OURS, Some("3"), "2") if nodes["device/vbd/51712/protocol"] == "x86_64-abi" => "4",
        (OURS, Some("5"), _) => "5",
        (OURS, Some("6"), "5") => "6",
        (OURS, Some("1"), "6") => "2",
        _ => return,
    };
    nodes.insert(STATE.into(), theirs.into());
}

fn domain() -> Behaviour {
    Behaviour::reacting(&NODES, follow)
}

/// What a back end does with an answer.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    None,
    Silent,
    Id,
    Operation,
    Index(u32),
    Status(i16),
}

/// The disk behind the ring.
struct BackEnd {
    content: RefCell<Vec<u8>>,
    done: Cell<u32>,
    operations: RefCell<Vec<u8>>,
    fault: Cell<Fault>,
}

impl BackEnd {
    fn new() -> Self {
        let content = (0..9 << 20).map(|at: usize| (at / 512) as u8 ^ at as u8);
        Self {
            content: RefCell::new(content.collect()),
            done: Cell::new(0),
            operations: RefCell::new(Vec::new()),
            fault: Cell::new(Fault::None),
        }
    }

    fn turn(&self, page: &Page<'_>) {
        while self.done.get() != page.load(0) && self.fault.get() != Fault::Silent {
            self.serve(page);
        }
    }

    fn serve(&self, page: &Page<'_>) {
        let slot = 64 + 112 * (self.done.get() as usize % 32);
        let mut request = [0; 112];
        page.read(slot, &mut request);
        let number = |at: usize| u64::from_le_bytes(request[at..at + 8].try_into().unwrap());
        let mut at = number(16) as usize * 512;
        for segment in request[24..].chunks(8).take(request[1].into()) {
            let grant = u32::from_le_bytes(segment[..4].try_into().unwrap());
            let (first, last) = (usize::from(segment[4]), usize::from(segment[5]));
            assert!((GRANT + 1..GRANT + 12).contains(&grant), "grant {grant}");
            assert!(first <= last && last < 8);
            let offset = (grant - GRANT) as usize * 4096 + first * 512;
            let mut content = self.content.borrow_mut();
            let content = &mut content[at..][..(last - first + 1) * 512];
            match request[0] {
                0 => page.write(offset, content),
                1 => page.read(offset, content),
                other => panic!("operation {other} with data"),
            }
            at += content.len();
        }
        self.operations.borrow_mut().push(request[0]);
        self.done.set(self.done.get() + 1);
        self.answer(page, slot, request[0], number(8));
    }

    fn answer(&self, page: &Page<'_>, slot: usize, operation: u8, id: u64) {
        let fault = self.fault.get();
        let id = id + u64::from(fault == Fault::Id);
        let status = match fault {
            Fault::Status(status) => status,
            _ => 0,
        };
        page.write(slot, &id.to_le_bytes());
        page.write(
            slot + 8,
            &[operation + u8::from(fault == Fault::Operation), 0x77],
        );
        page.write(slot + 10, &status.to_le_bytes());
        let index = match fault {
            Fault::Index(index) => index,
            _ => self.done.get(),
        };
        page.store(8, index);
    }
}

fn channel() -> Channel {
    Channel {
        port: PORT,
        grant: GRANT,
    }
}

/// Does `work` with the connected disk, and expects it to be released.
fn with_disk<T>(
    domain: &Behaviour,
    work: impl Fn(&mut Disk<Page<'_>>, &BackEnd) -> T,
) -> Result<T, Error> {
    with(domain, |store| {
        let found = all(store).unwrap().remove(0);
        let disk = BackEnd::new();
        let turn = |page: &Page<'_>| disk.turn(page);
        let link = Page::pages(1 + PAGES, &turn);
        let result = Disk::connect(store, &found, link, channel())
            .map(|mut connected| work(&mut connected, &disk));
        release(store, &found)?;
        let nodes = domain.values.borrow();
        assert_eq!((&*nodes[OURS], &*nodes[STATE]), ("1", "2"));
        assert!(!nodes.contains_key("device/vbd/51712/ring-ref"));
        result
    })
}

#[test]
fn disks_are_found_and_drives_left_out() {
    let found = with(&domain(), |store| all(store).unwrap());
    let expected = Found {
        node: "device/vbd/51712".into(),
        backend: "/local/domain/0/backend/vbd/1/51712".into(),
        domain: 0,
        name: "xvda".into(),
    };
    assert_eq!(found, [expected]);
    let none = with(&Behaviour::default(), |store| all(store).unwrap());
    assert_eq!(none, []);
}

#[test]
fn what_is_written_is_read_from_the_same_place() {
    let seen = with_disk(&domain(), |disk, back_end| {
        assert_eq!(disk.sectors, 18432);
        let mut buffer = vec![0; 100 * 1024];
        disk.read(3, &mut buffer).unwrap();
        assert_eq!(buffer, back_end.content.borrow()[3 * 512..][..100 * 1024]);
        let bytes: Vec<u8> = (0..50 * 1024).map(|at: usize| (at / 7) as u8).collect();
        let before = back_end.content.borrow().clone();
        disk.write(18332, &bytes).unwrap();
        assert_eq!(back_end.content.borrow()[18332 * 512..], bytes);
        assert_eq!(
            back_end.content.borrow()[..18332 * 512],
            before[..18332 * 512]
        );
        disk.flush().unwrap();
        disk.flush().unwrap();
        // As often as the ring goes round, and more.
        for sector in 0..100 {
            disk.read(sector, &mut buffer[..512]).unwrap();
        }
        back_end.operations.borrow()[..6].to_vec()
    });
    assert_eq!(seen, Ok(vec![0, 0, 0, 1, 1, 3]));
}

#[test]
fn a_request_is_what_the_header_says() {
    let bytes = with_disk(&domain(), |disk, _| {
        let _ = disk.read(0, &mut [0; 512]);
        disk.written_out(1, 0x1234, 0x56, 4096 + 1024)
    });
    let mut expected = [0; 112];
    expected[..24].copy_from_slice(b"\x01\x02\0\0\0\0\0\0\x34\x12\0\0\0\0\0\0\x56\0\0\0\0\0\0\0");
    expected[24..40].copy_from_slice(b"\x09\0\0\0\0\x07\0\0\x0a\0\0\0\0\x01\0\0");
    assert_eq!(bytes, Ok(expected));
}

#[test]
fn flushes_are_what_the_back_end_offers() {
    for (node, value, operations) in [
        ("feature-flush-cache", "0", &[1, 2][..]),
        ("feature-flush-cache", "1", &[1, 3]),
        ("feature-barrier", "0", &[1, 3]),
    ] {
        let domain = domain();
        let node = format!("/local/domain/0/backend/vbd/1/51712/{node}");
        domain.values.borrow_mut().insert(node, value.into());
        let seen = with_disk(&domain, |disk, back_end| {
            disk.write(0, &[1; 512]).unwrap();
            disk.flush().unwrap();
            back_end.operations.borrow().clone()
        });
        assert_eq!(seen.as_deref(), Ok(operations));
    }
}

#[test]
fn nothing_outside_of_the_disk_is_asked_for() {
    let seen = with_disk(&domain(), |disk, back_end| {
        for sector in [18432, 18431, u64::MAX, u64::MAX - 1] {
            assert_eq!(disk.read(sector, &mut [0; 1024]), Err(Error::Unusable));
            assert_eq!(disk.write(sector, &[0; 1024]), Err(Error::Unusable));
        }
        assert_eq!(disk.read(18431, &mut [0; 512]), Ok(()));
        back_end.operations.borrow().len()
    });
    assert_eq!(seen, Ok(1));
}

#[test]
fn a_back_end_that_lies_is_not_asked_again() {
    for (fault, expected) in [
        (Fault::Silent, Error::Silent),
        (Fault::Id, Error::Answer(1, 1)),
        (Fault::Operation, Error::Answer(1, 0)),
        (Fault::Index(2), Error::Answer(2, 0)),
        (Fault::Index(u32::MAX), Error::Answer(u32::MAX, 0)),
    ] {
        let found = with_disk(&domain(), |disk, back_end| {
            back_end.fault.set(fault);
            let first = disk.read(0, &mut [0; 512]);
            back_end.fault.set(Fault::None);
            assert_eq!(disk.read(0, &mut [0; 512]), Err(Error::Unusable));
            assert_eq!(disk.write(0, &[0; 512]), Err(Error::Unusable));
            first
        });
        assert_eq!(found, Ok(Err(expected)), "{fault:?}");
    }
}

#[test]
fn a_request_that_is_refused_may_be_tried_again() {
    let found = with_disk(&domain(), |disk, back_end| {
        back_end.fault.set(Fault::Status(-1));
        let first = disk.write(0, &[0; 512]);
        back_end.fault.set(Fault::None);
        (first, disk.write(0, &[0; 512]))
    });
    assert_eq!(found, Ok((Err(Error::Refused(1, -1)), Ok(()))));
}

#[test]
fn a_back_end_that_does_not_follow_is_given_up() {
    type Reaction = fn(&mut Nodes, &str);
    let never: Reaction = |_, _| {};
    let refuses: Reaction = |nodes, path| {
        if path == OURS {
            nodes.insert(STATE.into(), "5".into());
        }
    };
    let vanishes: Reaction = |nodes, _| drop(nodes.remove(STATE));
    for (reaction, expected) in [(never, 2), (refuses, 5), (vanishes, 0)] {
        let domain = Behaviour::reacting(&NODES, reaction);
        let found = with(&domain, |store| {
            let found = all(store).unwrap().remove(0);
            let back_end = |_: &Page<'_>| {};
            let link = Page::pages(1 + PAGES, &back_end);
            let connected = Disk::connect(store, &found, link, channel());
            (connected.map(drop), release(store, &found).is_err())
        });
        assert_eq!(found, (Err(Error::State(4, expected)), true));
    }
}

#[test]
fn other_sectors_are_refused() {
    let domain = domain();
    let node = "/local/domain/0/backend/vbd/1/51712/sector-size";
    domain
        .values
        .borrow_mut()
        .insert(node.into(), "4096".into());
    let found = with_disk(&domain, |_, _| ());
    assert_eq!(found, Err(Error::SectorSize(4096)));
}

#[test]
fn changed_sectors_are_written_and_no_others() {
    let seen = with_disk(&domain(), |disk, back_end| {
        let mut image = back_end.content.borrow()[..128 * 1024].to_vec();
        let mut changes = Changes::none(image.len());
        for (offset, length) in [(511, 2), (5000, 1), (60_000, 50_000), (131_071, 1)] {
            image[offset..][..length].fill(0xee);
            changes.add(offset, length);
        }
        // Not told, so not written.
        image[3000] ^= 1;
        changes.store(disk, &image).unwrap();
        image[3000] ^= 1;
        assert_eq!(back_end.content.borrow()[..128 * 1024], image);
        assert_eq!(*back_end.operations.borrow(), [1, 1, 1, 1, 1, 3]);
        changes.store(disk, &image).unwrap();
        assert_eq!(back_end.operations.borrow().len(), 6);
        // What has failed is written the next time.
        image[0] = 0x77;
        changes.add(0, 1);
        back_end.fault.set(Fault::Status(-1));
        back_end.content.borrow_mut()[0] = 0;
        assert_eq!(changes.store(disk, &image), Err(Error::Refused(1, -1)));
        back_end.fault.set(Fault::None);
        back_end.content.borrow_mut()[0] = 0;
        changes.store(disk, &image).unwrap();
        back_end.content.borrow()[0]
    });
    assert_eq!(seen, Ok(0x77));
}

proptest! {
    #[test]
    fn any_ring_ends_in_an_answer_or_an_error(
        bytes in proptest::collection::vec(any::<u8>(), 0..4096),
        index in any::<u32>(),
        sector in any::<u64>(),
    ) {
        let once = |page: &Page<'_>| {
            page.write(12, &bytes);
            page.store(8, index);
        };
        with(&domain(), |store| {
            let found = all(store).unwrap().remove(0);
            let link = Page::pages(1 + PAGES, &once);
            let mut disk = Disk::connect(store, &found, link, channel()).unwrap();
            let _ = disk.read(sector, &mut [0; 8192]);
            let _ = disk.write(sector % 100, &[0; 1024]);
            let _ = disk.flush();
        });
    }
}
