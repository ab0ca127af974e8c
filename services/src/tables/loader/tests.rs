//! The table loader against scripts as a host writes them.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking"
)]

use super::*;
use proptest::prelude::*;

/// A host with two files, at addresses 0x1000 and 0x2000.
#[derive(Default)]
struct Memory {
    placed: u64,
    written: Vec<(Vec<u8>, u32, Vec<u8>)>,
}

const SIZE: usize = 64;

impl<'a> Host<'a> for Memory {
    fn place(&mut self, file: &[u8], alignment: u64) -> Result<Blob<'a>, HostError> {
        if file == b"missing" {
            return Err(HostError::NoFile);
        }
        self.placed += 0x1000;
        assert!(self.placed.is_multiple_of(alignment));
        Ok(Blob {
            address: self.placed,
            bytes: vec![0; SIZE].leak(),
            used: 0,
        })
    }

    fn write(&mut self, file: &[u8], offset: u32, bytes: &mut [u8]) -> Result<(), HostError> {
        self.written.push((file.into(), offset, bytes.to_vec()));
        Ok(())
    }
}

fn entry(command: u32, names: &[&str], numbers: &[u32], width: Option<u8>) -> Vec<u8> {
    let mut bytes = command.to_le_bytes().to_vec();
    for name in names {
        let mut field = name.as_bytes().to_vec();
        field.resize(NAME, 0);
        bytes.extend(field);
    }
    for number in numbers {
        bytes.extend(number.to_le_bytes());
    }
    bytes.extend(width);
    bytes.resize(ENTRY, 0);
    bytes
}

fn two_files() -> Vec<u8> {
    [
        entry(1, &["a"], &[16], Some(1)),
        entry(1, &["b"], &[4096], Some(2)),
    ]
    .concat()
}

fn run_after_files(command: Vec<u8>) -> Result<Files<'static>, Problem<'static>> {
    let script = [two_files(), command].concat().leak();
    run(script, &mut Memory::default()).map_err(|error| {
        assert_eq!(error.index, 2);
        error.problem
    })
}

#[test]
fn pointers_become_addresses() {
    let files = run_after_files(entry(2, &["a", "b"], &[8], Some(4))).unwrap();
    assert_eq!(
        files.get(b"a").unwrap().bytes[8..12],
        0x2000u32.to_le_bytes()
    );
    let files: &dyn Physical = &files;
    assert_eq!(files.bytes(0x2004, SIZE - 4).unwrap().len(), SIZE - 4);
    assert_eq!(files.bytes(0x2004, SIZE - 3), None);
    assert_eq!(files.bytes(0x2000 + SIZE as u64, 1), None);
}

#[test]
fn checksums_make_the_sum_zero() {
    let script = [
        entry(2, &["a", "b"], &[0], Some(8)),
        entry(3, &["a"], &[9, 0, 32], None),
    ]
    .concat();
    let files = run_after_files(script).unwrap();
    let bytes = &files.get(b"a").unwrap().bytes[..32];
    assert_ne!(bytes[9], 0);
    assert_eq!(
        bytes.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte)),
        0
    );
}

#[test]
fn pointers_are_written_back() {
    let mut host = Memory::default();
    let script = [two_files(), entry(4, &["c", "b"], &[24, 40], Some(8))].concat();
    run(&script, &mut host).unwrap();
    let address = 0x2028u64.to_le_bytes().to_vec();
    assert_eq!(host.written, [("c".into(), 24, address)]);
}

#[test]
fn what_a_script_has_to_do_with_is_used() {
    let used = |command| {
        let files = run_after_files(command).unwrap();
        [&b"a"[..], b"b"].map(|name| files.get(name).unwrap().used)
    };
    assert_eq!(used(Vec::new()), [0, 0]);
    // No table at the start of `b`.
    assert_eq!(used(entry(2, &["a", "b"], &[8], Some(4))), [12, 1]);
    // The pointer, to 0x2000, is the length of the table at the start of `a`, which
    // ends behind the file.
    let pointers = [
        entry(2, &["a", "b"], &[4], Some(4)),
        entry(2, &["b", "a"], &[16], Some(8)),
    ];
    assert_eq!(used(pointers.concat()), [SIZE, 24]);
    assert_eq!(used(entry(3, &["a"], &[9, 0, 32], None)), [32, 0]);
    assert_eq!(used(entry(3, &["a"], &[40, 0, 32], None)), [41, 0]);
    assert_eq!(used(entry(4, &["c", "b"], &[24, 40], Some(8))), [0, 41]);
}

#[test]
fn unknown_commands_are_passed_over() {
    assert!(run_after_files(entry(77, &["a"], &[], None)).is_ok());
}

fn problem_of(command: Vec<u8>) -> Problem<'static> {
    run_after_files(command).unwrap_err()
}

#[test]
fn what_lies_outside_its_file_is_refused() {
    let size = SIZE as u32;
    let commands = [
        entry(2, &["a", "b"], &[size - 3], Some(4)),
        entry(2, &["a", "b"], &[u32::MAX], Some(4)),
        entry(4, &["c", "b"], &[0, size], Some(8)),
        entry(3, &["a"], &[0, 0, size + 1], None),
        entry(3, &["a"], &[size, 0, 8], None),
        entry(3, &["a"], &[0, u32::MAX, 2], None),
    ];
    for command in commands {
        let problem = problem_of(command);
        assert!(matches!(problem, Problem::Outside { .. }), "{problem:?}");
    }
}

#[test]
fn malformed_commands_are_refused() {
    let cases = [
        (
            entry(2, &["a", "z"], &[0], Some(4)),
            Problem::NotAllocated(b"z"),
        ),
        (entry(2, &["a", "b"], &[0], Some(3)), Problem::Width(3)),
        (
            entry(2, &["a", "b"], &[0], Some(1)),
            Problem::Overflow(0x2000),
        ),
        (entry(1, &["a"], &[1], None), Problem::Again(b"a")),
        (entry(1, &["c"], &[3], None), Problem::Alignment(3)),
        (
            entry(1, &["missing"], &[1], None),
            Problem::Host(b"missing", HostError::NoFile),
        ),
        (entry(1, &[&"x".repeat(NAME)], &[1], None), Problem::Name),
    ];
    for (command, expected) in cases {
        assert_eq!(problem_of(command), expected);
    }
}

#[test]
fn a_truncated_script_is_refused_and_says_where() {
    let script = &two_files()[..ENTRY + 5];
    let error = run(script, &mut Memory::default()).unwrap_err();
    assert_eq!((error.index, &error.problem), (1, &Problem::Truncated));
    assert_eq!(
        error.to_string(),
        "table loader, command 1: expected 128 bytes, found the script's end"
    );
}

proptest! {
    #[test]
    fn any_command_is_survived(
        command in 0u32..6,
        names in proptest::collection::vec("[abz]", 2),
        rest in proptest::collection::vec(any::<u8>(), 16),
    ) {
        let mut bytes = entry(command, &[&names[0], &names[1]], &[], None);
        bytes[4 + 2 * NAME..][..12].copy_from_slice(&rest[..12]);
        let _ = run(&[two_files(), bytes].concat(), &mut Memory::default());
    }
}
