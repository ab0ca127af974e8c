//! Hosts that refuse, say nothing, or lie.

use super::super::host;
use super::*;
use proptest::prelude::*;

/// Where the status is in a reply.
fn status_at(protocol: Protocol) -> usize {
    match protocol {
        Protocol::Varstored => 0,
        Protocol::UefiVars => 32,
    }
}

/// A host that answers everything with `status`.
fn stubborn(protocol: Protocol, status: u64) -> World {
    let at = status_at(protocol);
    World::tampered(protocol, move |reply| {
        reply[at..at + 8].copy_from_slice(&status.to_le_bytes());
    })
}

#[test]
fn only_statuses_that_the_specification_lists_are_passed_on() {
    // Invalid parameter, unsupported; not found; security violation; full, read-only.
    let lists = [
        [2, 3, 14, 26, 9, 8],
        [2, 3, 14, 0, 0, 0],
        [2, 3, 0, 0, 0, 0],
    ];
    for (protocol, code) in PROTOCOLS
        .into_iter()
        .flat_map(|p| (1..70).map(move |c| (p, c)))
    {
        for status in [
            code,
            host::error(code),
            host::error(code | 1 << 40),
            code << 8,
        ] {
            let mut world = stubborn(protocol, status);
            let answers = [
                world.set("V", NV_BS_RT, b"x"),
                world.next(("V", VENDOR), BUFFER).map(drop),
                world.remote().info(Phase::Boot, BS).map(drop),
                world.get("V").map(drop),
            ];
            let denied = status == host::error(15);
            let small = status == host::error(5) && protocol == Protocol::UefiVars;
            if denied || small {
                continue; // the next test's
            }
            for (answer, list) in
                answers
                    .into_iter()
                    .zip([&lists[0][..], &lists[1], &lists[2], &[2, 3, 14, 26]])
            {
                let listed = status == host::error(code) && list.contains(&code);
                let expected = match listed {
                    true => Status(usize::try_from(status).unwrap()),
                    false => Status::DEVICE_ERROR,
                };
                refused(expected, answer);
            }
        }
    }
}

#[test]
fn statuses_of_qemu_that_the_specification_does_not_list_are_translated() {
    let mut world = stubborn(Protocol::UefiVars, host::error(15));
    refused(Status::NOT_FOUND, world.get("V"));
    refused(Status::WRITE_PROTECTED, world.set("V", NV_BS_RT, b"x"));
    refused(Status::WRITE_PROTECTED, world.set("V", NV_BS_RT, b""));
    refused(Status::DEVICE_ERROR, world.next(("", VENDOR), BUFFER));
    refused(Status::DEVICE_ERROR, world.remote().info(Phase::Boot, BS));
    let mut world = stubborn(Protocol::UefiVars, host::error(5));
    refused(Status::DEVICE_ERROR, world.set("V", NV_BS_RT, b"x"));
    refused(Status::DEVICE_ERROR, world.remote().info(Phase::Boot, BS));
}

#[test]
fn a_host_that_does_nothing_has_not_agreed() {
    struct Silence;
    impl Doorbell for Silence {
        fn ring(&mut self, _: &mut [u8], _: usize, _: usize) -> Result<(), Failed> {
            Ok(())
        }
    }
    for protocol in PROTOCOLS {
        let mut buffer = vec![0; BUFFER];
        let name = utf16("V");
        let mut remote = |service: fn(Remote<'_, Silence>, Key<'_>) -> Result<(), Error>| {
            let (buffer, bell) = (&mut buffer[..], Silence);
            let remote = Remote {
                protocol,
                buffer,
                bell,
            };
            refused(Status::DEVICE_ERROR, service(remote, key(VENDOR, &name)));
        };
        remote(|remote, key| remote.get(Phase::Boot, key, 9).map(drop));
        remote(|remote, key| remote.next(Phase::Boot, key, 9).map(drop));
        remote(|remote, key| remote.set(Phase::Boot, key, BS, b"x"));
        remote(|remote, key| remote.set(Phase::Boot, key, BS, b""));
        remote(|remote, _| remote.info(Phase::Boot, BS).map(drop));
    }
}

/// Where sizes are in replies to GetVariable and GetNextVariableName.
fn sizes_at(protocol: Protocol) -> (usize, usize) {
    match protocol {
        Protocol::Varstored => (12, 8),
        Protocol::UefiVars => (56, 56),
    }
}

#[test]
fn sizes_that_cannot_be_are_refused() {
    for protocol in PROTOCOLS {
        let (data, name) = sizes_at(protocol);
        for size in [
            BUFFER as u64 - 8,
            BUFFER as u64,
            1 << 32,
            u64::MAX - 1,
            u64::MAX,
        ] {
            let size_as_room = usize::try_from(size).unwrap();
            // A caller who has room for it, and one who would be told to get some.
            let wholes = [(data, false), (name, true)];
            let cases = wholes.map(|whole| [(whole, size_as_room), (whole, 16)]);
            for ((at, of_name), room) in cases.into_iter().flatten() {
                let mut world = World::tampered(protocol, move |reply| {
                    reply[at..at + 8].copy_from_slice(&size.to_le_bytes());
                });
                let phase = Phase::Boot;
                let name = utf16(if of_name { "" } else { "V" });
                let answer = match of_name {
                    true => world
                        .remote()
                        .next(phase, key(VENDOR, &name), room)
                        .map(drop),
                    false => world
                        .remote()
                        .get(phase, key(VENDOR, &name), room)
                        .map(drop),
                };
                refused(Status::DEVICE_ERROR, answer);
            }
        }
        // Half a unit, a NUL within, and no name at all.
        for size in [0, 1, 3, 2] {
            let mut world = World::tampered(protocol, move |reply| {
                reply[name] = size;
                reply[name + 8] *= size & 1;
            });
            refused(Status::DEVICE_ERROR, world.next(("", VENDOR), BUFFER));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 2 } else { 300 }))]

    /// Whatever comes back, what a caller gets is whole and within its room.
    #[test]
    fn any_reply_is_survived(
        protocol in proptest::sample::select(&PROTOCOLS[..]),
        noise in proptest::collection::vec(any::<u8>(), 0..400),
        at in 0..120_usize,
        success in any::<bool>(),
        room in 0..BUFFER,
    ) {
        let status = status_at(protocol);
        let mut world = World::tampered(protocol, move |reply| {
            reply[at..at + noise.len()].copy_from_slice(&noise);
            if success {
                reply[status..status + 8].fill(0);
            }
        });
        let name = utf16("V");
        if let Ok(found) = world.remote().get(Phase::Boot, key(VENDOR, &name), room) {
            prop_assert_eq!(found.bytes.len(), if found.size <= room { found.size } else { 0 });
        }
        if let Ok((name, size, _)) = world.next(("V", VENDOR), room) {
            prop_assert_eq!(name.len(), if size <= room { size } else { 0 });
            let string = Name::from_buffer(&name).map(|name| name.bytes().len());
            prop_assert_eq!(string, (size <= room).then_some(size));
        }
        let _ = world.set("V", NV_BS_RT.union(A::APPEND_WRITE), b"more");
        let _ = world.set("V", NV_BS_RT, b"");
        let _ = world.remote().info(Phase::Boot, BS);
    }
}
