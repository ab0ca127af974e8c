//! A ring of bytes with one writer and one reader, as the console and xenstore
//! have them, two in a page (Xen `xen/include/public/io/console.h`, `xs_wire.h`).
//!
//! Both indices run freely and are taken modulo the size. Refuses indices that
//! are further apart than the ring is long.

use super::Link;

/// Where a ring lies in its page.
pub struct Ring {
    /// Offset of the bytes.
    pub data: usize,
    /// Their number, a power of two.
    pub size: u32,
    /// Offset of the reader's index.
    pub consumer: usize,
    /// Offset of the writer's index.
    pub producer: usize,
}

/// Indices further apart than the ring is long: the consumer's, the producer's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Corrupt(pub u32, pub u32);

impl Ring {
    /// How many bytes wait for the reader.
    pub fn used(&self, link: &impl Link) -> Result<u32, Corrupt> {
        let (consumer, producer) = (link.load(self.consumer), link.load(self.producer));
        let used = producer.wrapping_sub(consumer);
        (used <= self.size)
            .then_some(used)
            .ok_or(Corrupt(consumer, producer))
    }

    /// Writes as much of `bytes` as there is room for; returns how much.
    #[cold]
    pub fn push(&self, link: &impl Link, bytes: &[u8]) -> Result<usize, Corrupt> {
        let room = self.size.saturating_sub(self.used(link)?);
        let at = link.load(self.producer);
        let mut bytes = bytes.get(..room as usize).unwrap_or(bytes);
        let pushed = bytes.len();
        let mut index = at;
        while !bytes.is_empty() {
            let (offset, length) = self.piece(index, bytes.len());
            let (now, later) = bytes.split_at(length);
            link.write(offset, now);
            index = index.wrapping_add(truncated(length));
            bytes = later;
        }
        link.store(self.producer, index);
        Ok(pushed)
    }

    /// Reads as many bytes as there are and `buffer` has room for; returns how
    /// many.
    #[cold]
    pub fn pull(&self, link: &impl Link, buffer: &mut [u8]) -> Result<usize, Corrupt> {
        let waiting = (self.used(link)? as usize).min(buffer.len());
        let mut index = link.load(self.consumer);
        let mut rest = buffer.get_mut(..waiting).unwrap_or_default();
        while !rest.is_empty() {
            let (offset, length) = self.piece(index, rest.len());
            let (now, later) = rest.split_at_mut(length);
            link.read(offset, now);
            index = index.wrapping_add(truncated(length));
            rest = later;
        }
        link.store(self.consumer, index);
        Ok(waiting)
    }

    /// Where in the page the byte at `index` is, and how many of `length` bytes
    /// lie there in one piece.
    fn piece(&self, index: u32, length: usize) -> (usize, usize) {
        let at = index & self.size.wrapping_sub(1);
        let behind = self.size.wrapping_sub(at) as usize;
        (self.data.wrapping_add(at as usize), length.min(behind))
    }
}

/// A length that is at most a ring's size.
fn truncated(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::super::simulated::Page;
    use super::*;

    const RING: Ring = Ring {
        data: 0x400,
        size: 64,
        consumer: 0x800,
        producer: 0x804,
    };

    #[test]
    fn bytes_come_out_in_order_across_the_end_and_the_wrap_of_indices() {
        let page = Page::default();
        for start in [0, 60, u32::MAX - 10] {
            page.store(RING.consumer, start);
            page.store(RING.producer, start);
            let sent: Vec<u8> = (0..50).collect();
            assert_eq!(RING.push(&page, &sent), Ok(50));
            assert_eq!(RING.used(&page), Ok(50));
            let mut received = [0; 64];
            assert_eq!(RING.pull(&page, &mut received), Ok(50));
            assert_eq!(received.get(..50).unwrap(), sent);
            assert_eq!(RING.used(&page), Ok(0));
        }
    }

    #[test]
    fn what_does_not_fit_is_not_taken() {
        let page = Page::default();
        assert_eq!(RING.push(&page, &[1; 100]), Ok(64));
        assert_eq!(RING.push(&page, &[2; 100]), Ok(0));
        let mut two = [0; 2];
        assert_eq!(RING.pull(&page, &mut two), Ok(2));
        assert_eq!(RING.push(&page, &[2; 100]), Ok(2));
        // What lies around the ring is left alone.
        for around in [0x3fc, 0x440] {
            assert_eq!(page.load(around), 0);
        }
    }

    #[test]
    fn indices_without_sense_are_refused() {
        let page = Page::default();
        page.store(RING.consumer, 1);
        assert_eq!(RING.used(&page), Err(Corrupt(1, 0)));
        assert_eq!(RING.push(&page, b"x"), Err(Corrupt(1, 0)));
        assert_eq!(RING.pull(&page, &mut [0]), Err(Corrupt(1, 0)));
    }
}
