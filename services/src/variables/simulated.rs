//! Flash for tests: bits are only cleared, or else the test fails; blocks are
//! only erased, and every
//! single write is remembered, to be undone or done again in part.
#![expect(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests"
)]

use super::storage::{BLOCK, ERASED, Failed, Storage};

/// One write to flash that changed something.
#[derive(Clone, Debug)]
pub enum Step {
    /// A byte was programmed: where, what was there, what is there.
    Byte(usize, u8, u8),
    /// A block was erased: where, what was there.
    Erase(usize, Box<[u8]>),
}

/// The flash.
pub struct Flash {
    /// Its content.
    pub bytes: Vec<u8>,
    /// The writes since this was emptied last.
    pub steps: Vec<Step>,
    /// Whether writes have an effect.
    pub writable: bool,
}

impl Flash {
    /// Flash with a content.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self {
            bytes,
            steps: Vec::new(),
            writable: true,
        }
    }

    /// Erased flash.
    pub fn blank(size: usize) -> Self {
        Self::new(vec![ERASED; size])
    }

    /// Does `step`.
    pub fn apply(&mut self, step: &Step) {
        match step {
            Step::Byte(offset, _, after) => self.bytes[*offset] = *after,
            Step::Erase(offset, _) => self.bytes[*offset..][..BLOCK].fill(ERASED),
        }
    }

    /// Does a part of `step`: the power fails meanwhile. Whether that differs
    /// from doing it and from not doing it.
    pub fn tear(&mut self, step: &Step) -> bool {
        match step {
            Step::Byte(offset, before, after) => {
                // Of the bits to be cleared every other one.
                let torn = before & (after | 0x55);
                self.bytes[*offset] = torn;
                torn != *before && torn != *after
            }
            Step::Erase(offset, _) => {
                self.bytes[*offset..][..BLOCK / 2].fill(ERASED);
                true
            }
        }
    }

    /// Takes `step` back.
    pub fn undo(&mut self, step: &Step) {
        match step {
            Step::Byte(offset, before, _) => self.bytes[*offset] = *before,
            Step::Erase(offset, before) => self.bytes[*offset..][..BLOCK].copy_from_slice(before),
        }
    }

    /// Takes all remembered steps back and returns them.
    pub fn rewind(&mut self) -> Vec<Step> {
        let steps = std::mem::take(&mut self.steps);
        for step in steps.iter().rev() {
            self.undo(step);
        }
        steps
    }
}

impl Storage for Flash {
    fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn program(&mut self, offset: usize, bytes: &[u8]) -> Result<(), Failed> {
        if !self.writable {
            return Err(Failed);
        }
        let room = self.bytes.get_mut(offset..).ok_or(Failed)?;
        let room = room.get_mut(..bytes.len()).ok_or(Failed)?;
        for (index, (to, from)) in room.iter_mut().zip(bytes).enumerate() {
            let after = *from;
            assert_eq!(after & !*to, 0, "a bit would have to be set");
            if after != *to {
                self.steps.push(Step::Byte(offset + index, *to, after));
                *to = after;
            }
        }
        Ok(())
    }

    fn erase(&mut self, offset: usize) -> Result<(), Failed> {
        assert_eq!(offset % BLOCK, 0, "not a block");
        if !self.writable {
            return Err(Failed);
        }
        let block = self.bytes.get_mut(offset..).ok_or(Failed)?;
        let block = block.get_mut(..BLOCK).ok_or(Failed)?;
        self.steps.push(Step::Erase(offset, block.into()));
        block.fill(ERASED);
        Ok(())
    }
}
