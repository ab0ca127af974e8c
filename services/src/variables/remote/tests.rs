//! The services of §8.2 over a model of each host, and over hosts that lie.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::panic,
    reason = "tests"
)]

mod hostile;

use super::host::Host;
use super::{BUFFER, Doorbell, Event, Protocol, Remote, uefi_vars};
use crate::variables::tests::utf16;
use crate::variables::{Error, Failed, Key, Name, Phase};
use uefi_raw::table::runtime::VariableAttributes as A;
use uefi_raw::{Guid, Status, guid};

const VENDOR: Guid = guid!("8be4df61-93ca-11d2-aa0d-00e098032b8c");
const OTHER: Guid = guid!("d719b2cb-3d3a-4596-a3bc-dad00e67656f");
const BS: A = A::BOOTSERVICE_ACCESS;
const BS_RT: A = BS.union(A::RUNTIME_ACCESS);
const NV_BS_RT: A = BS_RT.union(A::NON_VOLATILE);

const PROTOCOLS: [Protocol; 2] = [Protocol::Varstored, Protocol::UefiVars];

/// What becomes of a reply on its way.
type Tamper = Box<dyn FnMut(&mut [u8])>;

/// The way to the host, and the host.
struct Wire {
    protocol: Protocol,
    host: Host,
    tamper: Option<Tamper>,
}

impl Doorbell for &mut Wire {
    fn ring(&mut self, buffer: &mut [u8], sent: usize, back: usize) -> Result<(), Failed> {
        assert!(sent <= BUFFER && back <= BUFFER);
        // What is not sent the host does not see; what it does not send back we do not.
        let mut seen = buffer.to_vec();
        seen[sent..].fill(0x77);
        match self.protocol {
            Protocol::Varstored => self.host.varstored(&mut seen),
            Protocol::UefiVars => assert_eq!(self.host.uefi_vars(&mut seen), 0),
        }
        buffer[..back].copy_from_slice(&seen[..back]);
        if let Some(tamper) = &mut self.tamper {
            tamper(buffer);
        }
        Ok(())
    }
}

/// A guest and its host.
struct World {
    wire: Wire,
    buffer: Vec<u8>,
    phase: Phase,
}

/// Attributes and data, or what was refused.
type Got = Result<(A, Vec<u8>), Error>;

impl World {
    fn new(protocol: Protocol) -> Self {
        Self {
            wire: Wire {
                protocol,
                host: Host::default(),
                tamper: None,
            },
            buffer: vec![0x5a; BUFFER],
            phase: Phase::Boot,
        }
    }

    /// One that changes each reply.
    fn tampered(protocol: Protocol, tamper: impl FnMut(&mut [u8]) + 'static) -> Self {
        let mut world = Self::new(protocol);
        world.set("V", NV_BS_RT, b"value").unwrap();
        world.wire.tamper = Some(Box::new(tamper));
        world
    }

    fn exit_boot_services(&mut self) {
        self.phase = Phase::Runtime;
        self.remote().tell(Event::ExitBootServices);
    }

    fn remote(&mut self) -> Remote<'_, &mut Wire> {
        Remote {
            protocol: self.wire.protocol,
            buffer: &mut self.buffer,
            bell: &mut self.wire,
        }
    }

    fn set(&mut self, name: &str, attributes: A, data: &[u8]) -> Result<(), Error> {
        let (phase, name) = (self.phase, utf16(name));
        self.remote()
            .set(phase, key(VENDOR, &name), attributes, data)
    }

    fn get(&mut self, name: &str) -> Got {
        let (phase, name) = (self.phase, utf16(name));
        let found = self.remote().get(phase, key(VENDOR, &name), BUFFER)?;
        assert_eq!(found.bytes.len(), found.size);
        Ok((found.attributes, found.bytes.to_vec()))
    }

    /// Name, size of the name and vendor.
    fn next(&mut self, after: (&str, Guid), room: usize) -> Result<(Vec<u8>, usize, Guid), Error> {
        let (phase, name) = (self.phase, utf16(after.0));
        let found = self.remote().next(phase, key(after.1, &name), room)?;
        Ok((found.bytes.to_vec(), found.size, found.vendor))
    }

    fn list(&mut self) -> Vec<String> {
        let (mut names, mut after) = (Vec::new(), (String::new(), OTHER));
        loop {
            match self.next((&after.0, after.1), BUFFER) {
                Ok((name, _, vendor)) => after = (text(&name), vendor),
                Err(error) => {
                    assert_eq!(error, Error::Host(Status::NOT_FOUND));
                    return names;
                }
            }
            names.push(after.0.clone());
        }
    }
}

fn key(vendor: Guid, name: &[u8]) -> Key<'_> {
    let name = Name::from_buffer(name).unwrap();
    Key { vendor, name }
}

fn text(name: &[u8]) -> String {
    let units = name
        .chunks_exact(2)
        .map(|unit| u16::from_le_bytes([unit[0], unit[1]]));
    let units: Vec<_> = units.collect();
    String::from_utf16_lossy(units.strip_suffix(&[0]).unwrap())
}

fn refused<T: std::fmt::Debug>(status: Status, result: Result<T, Error>) {
    let found = match result {
        Err(Error::Host(status)) => status,
        Err(Error::NotFound) => Status::NOT_FOUND,
        Err(Error::ReadOnly) => Status::WRITE_PROTECTED,
        Err(Error::Full(_)) => Status::OUT_OF_RESOURCES,
        Err(Error::AttributesDiffer | Error::NotForRuntime) => Status::INVALID_PARAMETER,
        Err(Error::Storage) => Status::DEVICE_ERROR,
        other => panic!("expected {status}, found {other:?}"),
    };
    assert_eq!(found, status);
}

#[test]
fn a_variable_lives() {
    for protocol in PROTOCOLS {
        let mut world = World::new(protocol);
        refused(Status::NOT_FOUND, world.get("V"));
        for attributes in [BS, BS_RT, NV_BS_RT] {
            let append = attributes.union(A::APPEND_WRITE);
            world.set("V", attributes, b"value").unwrap();
            world.set("V", attributes, b"other").unwrap();
            world.set("V", append, b" and").unwrap();
            world.set("V", append, b"").unwrap();
            assert_eq!(world.get("V"), Ok((attributes, b"other and".to_vec())));
            refused(
                Status::INVALID_PARAMETER,
                world.set("V", A::NON_VOLATILE.union(BS), b"x"),
            );
            world.set("V", attributes, b"").unwrap();
            refused(Status::NOT_FOUND, world.get("V"));
            refused(Status::NOT_FOUND, world.set("V", attributes, b""));
            world.set("V", append, b"appended to nothing").unwrap();
            assert_eq!(world.get("V").unwrap().0, attributes);
            world.set("V", A::empty(), b"deleted all the same").unwrap();
            refused(Status::NOT_FOUND, world.get("V"));
        }
    }
}

#[test]
fn names_are_listed_once_each() {
    for protocol in PROTOCOLS {
        let mut world = World::new(protocol);
        assert!(world.list().is_empty());
        for name in ["One", "Two", "Trois"] {
            world.set(name, BS, b"x").unwrap();
        }
        let trois = utf16("Trois");
        let phase = world.phase;
        world
            .remote()
            .set(phase, key(OTHER, &trois), BS_RT, b"y")
            .unwrap();
        let mut names = world.list();
        names.sort();
        assert_eq!(names, ["One", "Trois", "Trois", "Two"]);
        refused(
            Status::INVALID_PARAMETER,
            world.next(("Four", VENDOR), BUFFER),
        );
        world.exit_boot_services();
        assert_eq!(world.list(), ["Trois"]);
    }
}

#[test]
fn what_does_not_fit_is_told() {
    for protocol in PROTOCOLS {
        let mut world = World::new(protocol);
        world.set("Name", NV_BS_RT, b"value").unwrap();
        let name = utf16("Name");
        for (room, bytes) in [(0, &b""[..]), (4, b""), (5, b"value"), (6, b"value")] {
            let found = world.remote().get(Phase::Boot, key(VENDOR, &name), room);
            let found = found.unwrap();
            assert_eq!((found.size, found.bytes), (5, bytes));
            assert_eq!(found.attributes, NV_BS_RT);
        }
        for (room, bytes) in [(2, &b""[..]), (9, b""), (10, &name)] {
            let found = world.next(("", OTHER), room).unwrap();
            assert_eq!(found, (bytes.to_vec(), 10, VENDOR));
        }
    }
}

#[test]
fn after_exit_boot_services_other_rules_apply() {
    for protocol in PROTOCOLS {
        let mut world = World::new(protocol);
        for (name, attributes) in [("Boot", BS), ("Volatile", BS_RT), ("Kept", NV_BS_RT)] {
            world.set(name, attributes, b"x").unwrap();
        }
        world.exit_boot_services();
        refused(Status::NOT_FOUND, world.get("Boot"));
        assert_eq!(world.get("Volatile"), Ok((BS_RT, b"x".to_vec())));
        let expected = match protocol {
            Protocol::Varstored => Status::INVALID_PARAMETER,
            Protocol::UefiVars => Status::WRITE_PROTECTED,
        };
        refused(expected, world.set("Boot", BS, b"y"));
        refused(Status::WRITE_PROTECTED, world.set("Volatile", BS_RT, b""));
        refused(Status::WRITE_PROTECTED, world.set("Volatile", BS_RT, b"y"));
        refused(Status::INVALID_PARAMETER, world.set("New", BS_RT, b"y"));
        world
            .set("Kept", NV_BS_RT.union(A::APPEND_WRITE), b"y")
            .unwrap();
        world.set("New", NV_BS_RT, b"y").unwrap();
        assert_eq!(world.get("Kept"), Ok((NV_BS_RT, b"xy".to_vec())));
        world.set("Kept", NV_BS_RT, b"").unwrap();
        assert_eq!(world.list(), ["Volatile", "New"]);
    }
}

#[test]
fn sizes_are_those_of_the_host_and_the_buffer() {
    for protocol in PROTOCOLS {
        let mut world = World::new(protocol);
        let info = |world: &mut World, attributes| {
            let phase = world.phase;
            world.remote().info(phase, attributes)
        };
        let before = info(&mut world, NV_BS_RT).unwrap();
        assert!(before.storage >= before.remaining && before.largest < BUFFER);
        world.set("V", NV_BS_RT, &[1; 1000]).unwrap();
        assert!(info(&mut world, NV_BS_RT).unwrap().remaining <= before.remaining - 1000);
        assert_eq!(info(&mut world, A::empty()), Err(Error::NoAccess));
        let only_runtime = info(&mut world, A::RUNTIME_ACCESS);
        assert_eq!(only_runtime, Err(Error::RuntimeOnly));
        world.phase = Phase::Runtime;
        assert_eq!(info(&mut world, BS), Err(Error::NotForRuntime));

        let largest = vec![7; before.largest - utf16("Large").len()];
        world.set("Large", NV_BS_RT, &largest).unwrap();
        assert_eq!(world.get("Large"), Ok((NV_BS_RT, largest)));
    }
}

#[test]
fn what_no_host_could_take_is_not_sent() {
    for protocol in PROTOCOLS {
        let mut world = World::new(protocol);
        assert_eq!(world.set("", BS, b"x"), Err(Error::EmptyName));
        let bits = A::from_bits_retain(1 << 20 | BS.bits());
        let undefined = world.set("V", bits, b"x");
        assert_eq!(undefined, Err(Error::UndefinedAttributes(1 << 20)));
        assert_eq!(
            world.set("V", A::RUNTIME_ACCESS, b"x"),
            Err(Error::RuntimeOnly)
        );
        refused(
            Status::OUT_OF_RESOURCES,
            world.set("V", BS, &vec![0; BUFFER]),
        );
        let long = "N".repeat(BUFFER / 2);
        refused(Status::OUT_OF_RESOURCES, world.set(&long, BS, b"x"));
        refused(Status::OUT_OF_RESOURCES, world.get(&long));
        refused(Status::OUT_OF_RESOURCES, world.next((&long, VENDOR), 2));
        assert_eq!(world.wire.host.requests, 0);
    }
}

/// The host judges signatures, so it gets what is signed as it is; what is not
/// signed and should be, QEMU would take.
#[test]
fn signed_writes_are_the_hosts() {
    let signed = NV_BS_RT.union(A::TIME_BASED_AUTHENTICATED_WRITE_ACCESS);
    for protocol in PROTOCOLS {
        let mut world = World::new(protocol);
        world.set("db", signed, b"descriptor and keys").unwrap();
        let kept = world.wire.host.variables[0].clone();
        assert_eq!(
            (kept.attributes, kept.data),
            (0x27, b"descriptor and keys".to_vec())
        );
        assert_eq!(world.get("db").unwrap().0, signed);
        let requests = world.wire.host.requests;
        world.set("db", signed, b"again").unwrap();
        assert_eq!(world.wire.host.requests, requests + 1);
        refused(
            Status::INVALID_PARAMETER,
            world.set("db", NV_BS_RT, b"plain"),
        );
    }
    let mut world = World::new(Protocol::UefiVars);
    world.set("db", signed, b"x").unwrap();
    for (attributes, data) in [(signed, &b""[..]), (NV_BS_RT, b""), (A::empty(), b"x")] {
        assert_eq!(world.set("db", attributes, data), Err(Error::Signed));
    }
    assert_eq!(world.list(), ["db"]);
}

#[test]
fn events_are_told_to_whom_they_matter() {
    for (protocol, events) in PROTOCOLS.into_iter().zip([&[][..], &[5, 6]]) {
        let mut world = World::new(protocol);
        world.remote().tell(Event::ReadyToBoot);
        world.exit_boot_services();
        assert_eq!(world.wire.host.events, events);
    }
}

/// Entries of QEMU's list: type, length of the information, information.
fn hardware(entries: &[(u64, &[u8])]) -> Vec<u8> {
    let entry = |(kind, bytes): &(u64, &[u8])| {
        [
            &kind.to_le_bytes()[..],
            &(bytes.len() as u64).to_le_bytes(),
            bytes,
        ]
        .concat()
    };
    entries.iter().flat_map(entry).collect()
}

#[test]
fn the_device_is_found_in_the_hardware_list() {
    let at = 0xfef1_0000_u64.to_le_bytes();
    let list = hardware(&[(1, b"twelve bytes"), (2, &at), (7, b"")]);
    assert_eq!(uefi_vars::find(&list), Some(0xfef1_0000));
    for cut in 0..12 + 16 + 16 + 8 {
        assert_eq!(uefi_vars::find(&list[..cut]), None);
    }
    for entry in [(1, &at[..]), (2, &at[..7])] {
        assert_eq!(uefi_vars::find(&hardware(&[entry])), None);
    }
    let endless = [2_u64.to_le_bytes(), u64::MAX.to_le_bytes(), at].concat();
    assert_eq!(uefi_vars::find(&endless), None);
}
