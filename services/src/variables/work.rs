//! The block that says what is being rewritten: EDK2's fault-tolerant write
//! (EDK2 `MdeModulePkg/Universal/FaultTolerantWriteDxe`).
//!
//! The block is a header and a queue of entries, of which only the last one can
//! be under way. An entry's two state bytes say how far it is, one cleared bit a
//! step: allocated, new content complete in the spare area, target complete, all
//! complete. Promises to read any bytes, and to call an entry resumable only if
//! its target is variables.

use super::layout::{Layout, Work, put};
use super::storage::{BLOCK, ERASED, is_blank};
use core::ops::Range;
use uefi_raw::{Guid, guid};

/// `EFI_FAULT_TOLERANT_WORKING_BLOCK_HEADER` of a block of 4 KiB.
const HEADER: [u8; 32] = [
    0x2b, 0x29, 0x58, 0x9e, 0x68, 0x7c, 0x7d, 0x49, 0xa0, 0xce, 0x65, 0x00, 0xfd, 0x9f, 0x1b, 0x95,
    0x2c, 0xaf, 0x2c, 0x64, 0xfe, 0xff, 0xff, 0xff, 0xe0, 0x0f, 0, 0, 0, 0, 0, 0,
];
/// Offset of the byte in it whose bit 0, cleared, makes it valid.
pub const VALID: usize = 20;

/// `EFI_FAULT_TOLERANT_WRITE_HEADER`, `EFI_FAULT_TOLERANT_WRITE_RECORD`: both of
/// 40 bytes, the first of them the state.
const PART: usize = 40;
const ENTRY: usize = 2 * PART;

/// Bits of the header's state that are 0 once it is so.
pub const ALLOCATED: u8 = !0x01;
pub const WRITES_ALLOCATED: u8 = !0x02;
pub const COMPLETE: u8 = !0x04;
/// Bits of the record's state.
pub const SPARE_COMPLETE: u8 = !0x02;
pub const TARGET_COMPLETE: u8 = !0x04;

/// Who wrote the entry.
const CALLER: Guid = guid!("5b0c1f0e-7d5c-4c39-9a57-6f4c6e2d1a40");

/// The last entry of the queue.
pub enum Last {
    /// There is room for one here.
    Free(Entry),
    /// It is under way; what is to be copied from the spare area, if that is
    /// complete and makes sense.
    Pending(Entry, Option<Range<usize>>),
    /// The queue is full, or the block damaged.
    Unusable,
}

/// Where the two parts of an entry are in the store.
#[derive(Clone, Copy)]
pub struct Entry {
    /// The header, and with it its state.
    pub header: usize,
    /// The record, and with it its state.
    pub record: usize,
}

/// The header of a working block that is not valid yet.
pub fn blank_header() -> [u8; 32] {
    let mut header = HEADER;
    put(&mut header, VALID, &[ERASED]);
    header
}

/// The last entry in the working block of `store`.
pub fn last(store: &[u8], layout: &Layout, work: Work) -> Last {
    let block = store.get(work.working..).and_then(|rest| rest.get(..BLOCK));
    let Some(block) = block.filter(|block| block.starts_with(&HEADER)) else {
        return Last::Unusable;
    };
    let mut at = HEADER.len();
    while let Some(entry) = block.get(at..).and_then(|rest| rest.first_chunk::<ENTRY>()) {
        let header = work.working.saturating_add(at);
        let record = header.saturating_add(PART);
        let place = Entry { header, record };
        match entry.first() {
            Some(state) if state & !COMPLETE == 0 => at = at.saturating_add(length(entry)),
            Some(state) if state & !ALLOCATED == 0 => {
                return Last::Pending(place, target(entry, layout, work));
            }
            _ if is_blank(entry) => return Last::Free(place),
            _ => return Last::Unusable,
        }
    }
    Last::Unusable
}

/// Bytes of an entry with all its records.
fn length(entry: &[u8; ENTRY]) -> usize {
    let (writes, private) = (number(entry, 24), number(entry, 32));
    let record = private.saturating_add(PART);
    record.saturating_mul(writes).saturating_add(PART)
}

/// The blocks that the entry's spare area is to replace.
fn target(entry: &[u8; ENTRY], layout: &Layout, work: Work) -> Option<Range<usize>> {
    let state = *entry.get(PART)?;
    let ready = state & !SPARE_COMPLETE == 0 && state & !TARGET_COMPLETE != 0;
    let [block, offset, length] = [8, 16, 24].map(|at| number(entry, PART.saturating_add(at)));
    let start = block.checked_mul(BLOCK)?;
    let length = offset
        .checked_add(length)?
        .checked_next_multiple_of(BLOCK)?;
    let end = start.checked_add(length)?;
    let fits = end <= layout.variables && length <= layout.size.saturating_sub(work.spare);
    (ready && fits && number(entry, 24) == 1).then_some(start..end)
}

fn number(entry: &[u8; ENTRY], at: usize) -> usize {
    let bytes = entry.get(at..).and_then(|rest| rest.first_chunk());
    let number = bytes.map_or(u64::MAX, |bytes| u64::from_le_bytes(*bytes));
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// The entry for rewriting the variables of a store, in no state yet.
pub fn entry(layout: &Layout, work: Work) -> [u8; ENTRY] {
    let mut entry = [ERASED; ENTRY];
    let offset = layout.variables.saturating_sub(layout.store_size());
    let to_target = (work.spare as u64).wrapping_neg();
    put(&mut entry, 4, &CALLER.to_bytes());
    let numbers = [
        (24, 1),
        (32, 0),
        (PART + 8, 0),
        (PART + 16, offset as u64),
        (PART + 24, layout.store_size() as u64),
        (PART + 32, to_target),
    ];
    for (at, number) in numbers {
        put(&mut entry, at, &u64::to_le_bytes(number));
    }
    entry
}
