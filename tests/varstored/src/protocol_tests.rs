//! Messages byte by byte, and bytes that are no message.

use super::*;
use crate::hostile::Mode;
use crate::store::BUFFER_TOO_SMALL;

const VENDOR: [u8; 16] = *b"sixteen bytes...";

/// A request of these parts.
fn message(parts: &[&[u8]]) -> [u8; SIZE] {
    let mut message = [0; SIZE];
    let mut writer = Writer {
        message: &mut message,
        at: 0,
    };
    writer.put(&VERSION.to_le_bytes());
    parts.iter().for_each(|part| writer.put(part));
    message
}

fn number(value: u64) -> [u8; 8] {
    value.to_le_bytes()
}

fn set(data: &[u8]) -> [u8; SIZE] {
    let (name, size) = (number(4), number(data.len() as u64));
    message(&[
        &[1, 0, 0, 0],
        &name,
        b"A\0b\0",
        &VENDOR,
        &size,
        data,
        &[7, 0, 0, 0],
        &[1],
    ])
}

fn get(room: u64) -> [u8; SIZE] {
    let (name, room) = (number(4), number(room));
    message(&[&[0; 4], &name, b"A\0b\0", &VENDOR, &room, &[0]])
}

fn next(room: u64) -> [u8; SIZE] {
    let room = number(room);
    message(&[&[2, 0, 0, 0], &room, &number(0), &VENDOR, &[0]])
}

fn service() -> Service {
    let mut service = Service::new(Store::new(Vec::new()));
    let mut request = set(b"xyz");
    let handled = service.handle(&mut request);
    assert_eq!(request[..8], [0; 8]);
    let words =
        "set Ab 74786973-6565-206e-6279-7465732e2e2e at_runtime=1 attributes=0x7 size=3: 0x0";
    assert_eq!(handled.line, words);
    service
}

/// The status of an answer.
fn status(message: &[u8; SIZE]) -> u64 {
    u64::from_le_bytes(*message.first_chunk().unwrap())
}

#[test]
fn a_value_is_packed() {
    let mut answer = get(3);
    let handled = service().handle(&mut answer);
    let expected = [&[0; 8][..], &[7, 0, 0, 0], &number(3), b"xyz"].concat();
    assert_eq!(answer[..23], expected);
    assert_eq!((handled.command, handled.room), (Some(Command::Get), 3));
    let mut answer = get(2);
    service().handle(&mut answer);
    assert_eq!(status(&answer), BUFFER_TOO_SMALL);
    assert_eq!(answer[8..16], number(3));
}

#[test]
fn a_name_is_packed() {
    let mut answer = next(6);
    service().handle(&mut answer);
    let expected = [&[0; 8][..], &number(4), b"A\0b\0", &VENDOR].concat();
    assert_eq!(answer[..36], expected);
    let mut answer = next(5);
    service().handle(&mut answer);
    assert_eq!(status(&answer), BUFFER_TOO_SMALL);
    assert_eq!(answer[8..16], number(6));
}

#[test]
fn space_is_three_numbers() {
    let mut answer = message(&[&[3, 0, 0, 0], &[7, 0, 0, 0]]);
    service().handle(&mut answer);
    assert_eq!(answer[..16], [number(0), number(131_072)].concat());
    assert_eq!(answer[24..32], number(57344));
}

#[test]
fn a_notification_is_taken_once() {
    let mut service = service();
    for expected in [SUCCESS, ACCESS_DENIED] {
        let mut answer = message(&[&[4, 0, 0, 0]]);
        service.handle(&mut answer);
        assert_eq!(status(&answer), expected);
    }
}

#[test]
fn what_is_unknown_has_no_answer() {
    let mut other_version = get(3);
    other_version[0] = 2;
    for request in [other_version, message(&[&[5, 0, 0, 0]]), [0xff; SIZE]] {
        let mut answer = request;
        let handled = service().handle(&mut answer);
        assert!(answer == request && handled.command.is_none());
    }
}

#[test]
fn lengths_have_limits() {
    let name = |command: u8, length: u64| {
        let room = if command == 2 { &[0; 8][..] } else { &[] };
        let mut answer = message(&[&[command, 0, 0, 0], room, &number(length)]);
        service().handle(&mut answer);
        status(&answer)
    };
    for command in [0, 1, 2] {
        for length in [NAME_LIMIT + 1, u64::MAX] {
            assert_eq!(name(command, length), DEVICE_ERROR);
        }
    }
    assert_eq!([name(0, 0), name(1, 0)], [NOT_FOUND, INVALID_PARAMETER]);
    let largest = vec![1; 57345];
    for (data, expected) in [(&largest[..57344], SUCCESS), (&largest, OUT_OF_RESOURCES)] {
        let mut answer = set(data);
        service().handle(&mut answer);
        assert_eq!(status(&answer), expected);
    }
}

#[test]
fn wrong_answers_are_wrong() {
    let spoilt = |mode: Mode, request: [u8; SIZE]| {
        let mut answer = request;
        let handled = service().handle(&mut answer);
        mode.spoil(&request, &handled, &mut answer);
        answer
    };
    assert_eq!(spoilt(Mode::Longer, get(3))[12..20], number(4));
    assert_eq!(spoilt(Mode::Endless, next(6))[8..16], number(u64::MAX - 7));
    let smaller = spoilt(Mode::Smaller, get(8));
    assert_eq!((status(&smaller), smaller[8]), (BUFFER_TOO_SMALL, 4));
    assert_eq!(
        status(&spoilt(Mode::Status, set(b"x"))),
        0x8000_0000_1234_5678
    );
    for mode in [Mode::Silence, Mode::Mute] {
        assert!(spoilt(mode, get(3)) == get(3));
    }
    assert_eq!(status(&spoilt(Mode::Longer, set(b"x"))), SUCCESS);
}
