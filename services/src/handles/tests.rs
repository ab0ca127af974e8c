//! The database against the rules of UEFI 2.11 §7.3 one by one, and against a
//! model ([`model`]) that keeps one flat list and its rules as a table.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod model;

use super::*;
use uefi_raw::guid;

const A: Guid = guid!("00000001-0000-0000-0000-000000000000");
const B: Guid = guid!("00000002-0000-0000-0000-000000000000");
const C: Guid = guid!("00000003-0000-0000-0000-000000000000");

/// A database with a handle that carries `A`, and two more for agents.
fn with_agents() -> (Handles, HandleId, HandleId, HandleId) {
    let mut handles = Handles::new();
    let mut next = |protocol| handles.install(None, protocol, Interface(1)).unwrap();
    let (handle, one, two) = (next(A), next(C), next(C));
    (handles, handle, one, two)
}

fn opener(agent: HandleId, controller: HandleId, mode: Mode) -> Opener {
    Opener {
        agent: Some(agent),
        controller: Some(controller),
        mode,
    }
}

/// Who has `A` open.
fn opened(handles: &Handles, handle: HandleId) -> Result<Vec<Record>, Error> {
    let records = handles.opened(handle, A)?;
    Ok(records.copied().collect())
}

#[test]
fn a_handle_lives_from_its_first_protocol_to_its_last() {
    let mut handles = Handles::new();
    let handle = handles.install(None, A, Interface(1)).unwrap();
    assert_eq!(handles.install(Some(handle), B, Interface(2)), Ok(handle));
    assert_eq!(handles.interface(handle, A), Ok(Interface(1)));
    assert_eq!(handles.interface(handle, B), Ok(Interface(2)));
    assert_eq!(handles.protocols(handle), Ok(vec![A, B]));
    assert_eq!(handles.uninstall(handle, A, Interface(1)), Ok(()));
    assert_eq!(handles.interface(handle, A), Err(Error::NotFound));
    assert_eq!(handles.uninstall(handle, B, Interface(2)), Ok(()));
    assert_eq!(handles.interface(handle, B), Err(Error::UnknownHandle));
    let again = handles.install(Some(handle), A, Interface(1));
    assert_eq!(again, Err(Error::UnknownHandle));
    assert_ne!(handles.install(None, A, Interface(1)), Ok(handle));
}

#[test]
fn a_list_is_installed_whole_or_not_at_all() {
    let mut handles = Handles::new();
    let handle = handles.install(None, B, Interface(1)).unwrap();
    let taken = handles.install_all(Some(handle), &[(A, Interface(2)), (B, Interface(2))]);
    assert_eq!(taken, Err(Error::AlreadyInstalled));
    let twice = handles.install_all(None, &[(A, Interface(2)), (A, Interface(3))]);
    assert_eq!(twice, Err(Error::AlreadyInstalled));
    assert_eq!(handles.protocols(handle), Ok(vec![B]));
    assert_eq!(handles.locate(Search::AllHandles), [handle]);
    let fresh = handles.install_all(Some(handle), &[(A, Interface(2)), (C, Interface(2))]);
    assert_eq!(fresh, Ok(handle));
    assert_eq!(handles.protocols(handle), Ok(vec![A, B, C]));
}

#[test]
fn a_list_is_uninstalled_whole_or_not_at_all() {
    let mut handles = Handles::new();
    let both = [(A, Interface(1)), (B, Interface(2))];
    let handle = handles.install_all(None, &both).unwrap();
    for wrong in [(B, Interface(3)), (C, Interface(2)), (A, Interface(1))] {
        let removed = handles.uninstall_all(handle, &[(A, Interface(1)), wrong]);
        assert_eq!(removed, Err(Error::NotFound));
        assert_eq!(handles.protocols(handle), Ok(vec![A, B]));
    }
    assert_eq!(handles.uninstall_all(handle, &both), Ok(()));
    assert_eq!(handles.protocols(handle), Err(Error::UnknownHandle));
}

#[test]
fn reinstalling_replaces_the_installed_interface() {
    let mut handles = Handles::new();
    let handle = handles.install(None, A, Interface(1)).unwrap();
    let wrong = handles.reinstall(handle, A, Interface(2), Interface(3));
    assert_eq!(wrong, Err(Error::NotFound));
    assert_eq!(
        handles.reinstall(handle, A, Interface(1), Interface(3)),
        Ok(())
    );
    assert_eq!(handles.interface(handle, A), Ok(Interface(3)));
}

#[test]
fn locate_keeps_the_order_of_creation() {
    let mut handles = Handles::new();
    let first = handles.install(None, A, Interface(1)).unwrap();
    let second = handles.install(None, B, Interface(2)).unwrap();
    let third = handles.install(None, B, Interface(3)).unwrap();
    handles.install(Some(first), B, Interface(4)).unwrap();
    assert_eq!(handles.locate(Search::AllHandles), [first, second, third]);
    assert_eq!(handles.locate(Search::ByProtocol(A)), [first]);
    assert_eq!(
        handles.locate(Search::ByProtocol(B)),
        [first, second, third]
    );
    assert_eq!(handles.locate_interface(B), Ok(Interface(4)));
    assert_eq!(handles.locate_interface(C), Err(Error::NotFound));
}

#[test]
fn modes_that_name_someone_want_a_valid_name() {
    let (mut handles, handle, agent, controller) = with_agents();
    let stale = HandleId::of(HANDLE_BASE);
    for mode in [
        Mode::BY_CHILD_CONTROLLER,
        Mode::BY_DRIVER,
        Mode::EXCLUSIVE_BY_DRIVER,
    ] {
        for (agent, controller) in [
            (None, Some(controller)),
            (Some(agent), None),
            (Some(stale), Some(controller)),
            (Some(agent), Some(stale)),
        ] {
            let opened = handles.open(
                handle,
                A,
                Opener {
                    agent,
                    controller,
                    mode,
                },
            );
            assert_eq!(
                opened,
                Err(Error::UnknownHandle),
                "{mode:?} {agent:?} {controller:?}"
            );
        }
    }
    let nobody = Opener {
        agent: None,
        controller: None,
        mode: Mode::EXCLUSIVE,
    };
    assert_eq!(handles.open(handle, A, nobody), Err(Error::UnknownHandle));
    let own = opener(agent, handle, Mode::BY_CHILD_CONTROLLER);
    assert_eq!(handles.open(handle, A, own), Err(Error::OwnChild));
    assert_eq!(opened(&handles, handle), Ok(vec![]));
}

#[test]
fn what_anyone_may_do_is_counted_when_he_says_who_he_is() {
    let (mut handles, handle, agent, _) = with_agents();
    let get = |agent| Opener {
        agent,
        controller: None,
        mode: Mode::GET_PROTOCOL,
    };
    for who in [None, Some(agent), Some(agent)] {
        assert_eq!(handles.open(handle, A, get(who)), Ok(()));
    }
    let record = Record {
        opener: get(Some(agent)),
        count: 2,
    };
    assert_eq!(opened(&handles, handle), Ok(vec![record]));
    assert_eq!(handles.open(handle, B, get(None)), Err(Error::NotFound));
    assert_eq!(handles.close(handle, A, agent, None), Ok(()));
    assert_eq!(handles.close(handle, A, agent, None), Err(Error::NotFound));
}

#[test]
fn a_managed_interface_stays_until_it_is_closed() {
    for mode in [
        Mode::BY_CHILD_CONTROLLER,
        Mode::BY_DRIVER,
        Mode::EXCLUSIVE,
        Mode::EXCLUSIVE_BY_DRIVER,
    ] {
        let (mut handles, handle, agent, controller) = with_agents();
        handles
            .open(handle, A, opener(agent, controller, mode))
            .unwrap();
        let removed = handles.uninstall(handle, A, Interface(1));
        assert_eq!(removed, Err(Error::InUse));
        let replaced = handles.reinstall(handle, A, Interface(1), Interface(2));
        assert_eq!(replaced, Err(Error::InUse));
        assert_eq!(handles.close(handle, A, agent, None), Err(Error::NotFound));
        assert_eq!(handles.close(handle, A, agent, Some(controller)), Ok(()));
        assert_eq!(handles.uninstall(handle, A, Interface(1)), Ok(()));
    }
}

#[test]
fn one_manages_at_a_time() {
    let (driver, exclusive, both) = (Mode::BY_DRIVER, Mode::EXCLUSIVE, Mode::EXCLUSIVE_BY_DRIVER);
    for held in [driver, exclusive, both] {
        let (mut handles, handle, one, two) = with_agents();
        handles.open(handle, A, opener(one, handle, held)).unwrap();
        for wanted in [driver, exclusive, both] {
            let same = handles.open(handle, A, opener(one, handle, wanted));
            let again = held == wanted && held != exclusive;
            let expected = if again {
                Error::AlreadyStarted
            } else {
                Error::InUse
            };
            assert_eq!(same, Err(expected), "{held:?} {wanted:?}");
            let other = handles.open(handle, A, opener(two, handle, wanted));
            assert_eq!(other, Err(Error::InUse), "{held:?} {wanted:?}");
        }
        let child = opener(two, one, Mode::BY_CHILD_CONTROLLER);
        assert_eq!(handles.open(handle, A, child), Ok(()));
    }
}

#[test]
fn a_merely_read_interface_goes_with_its_records() {
    for mode in [
        Mode::BY_HANDLE_PROTOCOL,
        Mode::GET_PROTOCOL,
        Mode::TEST_PROTOCOL,
    ] {
        let (mut handles, handle, agent, controller) = with_agents();
        handles.install(Some(handle), B, Interface(9)).unwrap();
        handles
            .open(handle, A, opener(agent, controller, mode))
            .unwrap();
        assert_eq!(handles.uninstall(handle, A, Interface(1)), Ok(()));
        assert_eq!(handles.install(Some(handle), A, Interface(1)), Ok(handle));
        assert_eq!(opened(&handles, handle), Ok(vec![]));
    }
}

#[test]
fn an_image_closes_what_it_has_open_when_it_goes() {
    let (mut handles, handle, agent, other) = with_agents();
    handles
        .open(handle, A, opener(agent, handle, Mode::BY_DRIVER))
        .unwrap();
    handles
        .open(agent, C, opener(other, handle, Mode::EXCLUSIVE))
        .unwrap();
    handles.remove_image(agent, C, Interface(1));
    assert_eq!(handles.interface(agent, C), Err(Error::UnknownHandle));
    assert_eq!(opened(&handles, handle), Ok(vec![]));
    assert_eq!(handles.uninstall(handle, A, Interface(1)), Ok(()));
}

#[test]
fn an_image_leaves_alone_what_is_no_longer_its_own() {
    let (mut handles, _, image, _) = with_agents();
    handles
        .reinstall(image, C, Interface(1), Interface(2))
        .unwrap();
    handles.remove_image(image, C, Interface(1));
    assert_eq!(handles.interface(image, C), Ok(Interface(2)));
}

#[test]
#[cfg_attr(miri, ignore = "thousands of calls: minutes in Miri")]
fn the_number_of_interfaces_is_bounded() {
    let mut handles = Handles::new();
    for n in 0..MAX_INTERFACES {
        handles.install(None, A, Interface(n)).unwrap();
    }
    assert_eq!(handles.install(None, A, Interface(0)), Err(Error::Full));
    let first = *handles.locate(Search::AllHandles).first().unwrap();
    assert_eq!(
        handles.install(Some(first), B, Interface(0)),
        Err(Error::Full)
    );
    assert_eq!(handles.uninstall(first, A, Interface(0)), Ok(()));
    assert!(handles.install(None, A, Interface(0)).is_ok());
}

#[test]
#[cfg_attr(miri, ignore = "thousands of calls: minutes in Miri")]
fn the_number_of_open_records_is_bounded() {
    let (mut handles, handle, agent, _) = with_agents();
    // A controller is not looked at in this mode.
    let nth = |n| opener(agent, HandleId::of(n), Mode::GET_PROTOCOL);
    for n in 0..opens::MAX_RECORDS {
        handles.open(handle, A, nth(n)).unwrap();
    }
    let one_more = nth(opens::MAX_RECORDS);
    assert_eq!(handles.open(handle, A, one_more), Err(Error::Full));
    assert_eq!(
        handles.open(handle, A, nth(0)),
        Ok(()),
        "a known one counts"
    );
}

#[test]
fn only_seven_attributes_are_legal() {
    let legal: Vec<u32> = (0..=0x80)
        .filter(|a| Mode::from_attributes(*a).is_some())
        .collect();
    assert_eq!(legal, [1, 2, 4, 8, 0x10, 0x20, 0x30]);
    assert!(
        (0..32)
            .map(|bit| 1 << bit)
            .filter(|bit| *bit > 0x20)
            .all(|bit| Mode::from_attributes(bit).is_none())
    );
}
