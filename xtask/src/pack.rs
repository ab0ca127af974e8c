//! Packs the firmware's image for the flash, as LZ4 blocks.
//!
//! Of all ways to write a block it takes the cheapest: by the bytes that are
//! neither 00 nor FF, since erased flash and runs of zeros cost nobody anything, and
//! by the instructions that unpacking takes, at a price.
//!
//! The format is that of the "LZ4 Block Format Description", and any LZ4 library
//! reads the blocks. The routine in `firmware/src/entry/reset.s` that unpacks them
//! leaves out what is not written here: matches close enough to overlap 16 bytes,
//! of 17, 18 or more than 273 bytes, and ends without a run of literals.

use std::collections::HashMap;

use anyhow::{Result, ensure};

const SHORTEST: usize = 4;
/// One byte behind the token.
const LONGEST: usize = 15 + SHORTEST + 254;
/// Lengths that are not written.
const AWKWARD: [usize; 2] = [17, 18];
const NEAREST: usize = 16;
const FARTHEST: usize = 65535;
/// Literals from which on, and matches above which, another byte follows the token.
const LONG: usize = 15;
/// Most places looked at for one match.
const PLACES: usize = 256;

/// Cost in hundredths of a byte that is neither zero nor erased.
const BYTE: u32 = 100;
/// Zero or erased: next to nothing.
const EMPTY: u32 = 2;
/// Instructions for a token and a match of up to 16 bytes.
const SEQUENCE: u32 = 18;
/// Further ones for many literals, and for 64 of them.
const LITERALS: (u32, u32) = (10, 12);
/// Further ones for a long match, and for 16 bytes of it.
const MATCH: (u32, u32) = (6, 6);

const NEVER: u32 = u32::MAX / 2;

fn cost_of(byte: u8) -> u32 {
    if matches!(byte, 0 | 0xff) {
        EMPTY
    } else {
        BYTE
    }
}

#[derive(Clone, Copy)]
struct Match {
    length: usize,
    offset: usize,
}

/// The cheapest way to write everything from one place on.
struct Plan {
    /// Beginning with a match: what it costs, and which.
    matched: Vec<(u32, Match)>,
    /// Behind 15 literals: what it costs, and how many further ones.
    run: Vec<(u32, usize)>,
    /// Beginning with a token: what it costs, and the literals.
    token: Vec<(u32, usize)>,
}

/// One LZ4 block with `data`, which will be unpacked right behind `before`, and an
/// offset of 0 behind it. An instruction may cost up to `price` hundredths of a byte.
///
/// # Errors
/// When `data` is too short for a block with a match.
pub fn block(before: &[u8], data: &[u8], price: u32) -> Result<Vec<u8>> {
    ensure!(
        data.len() > LONG,
        "expected more than {LONG} bytes to pack, found {}",
        data.len()
    );
    let all = [before, data].concat();
    let plan = plan(&all, before.len(), price);
    let mut block = Vec::new();
    let mut at = before.len();
    loop {
        let literals = plan.token[at - before.len()].1;
        let behind = at + literals;
        let literal = &all[at..behind];
        let Some((_, copy)) = plan
            .matched
            .get(behind - before.len())
            .filter(|_| behind < all.len())
        else {
            block.push((LONG as u8) << 4);
            push_length(&mut block, literals - LONG);
            block.extend(literal);
            block.extend([0, 0]);
            return Ok(block);
        };
        let length = copy.length - SHORTEST;
        block.push(((literals.min(LONG)) << 4 | length.min(LONG)) as u8);
        if let Some(more) = literals.checked_sub(LONG) {
            push_length(&mut block, more);
        }
        block.extend(literal);
        block.extend((copy.offset as u16).to_le_bytes());
        if let Some(more) = length.checked_sub(LONG) {
            push_length(&mut block, more);
        }
        at = behind + copy.length;
    }
}

fn push_length(block: &mut Vec<u8>, length: usize) {
    block.extend(std::iter::repeat_n(0xff, length / 255));
    block.push((length % 255) as u8);
}

fn plan(all: &[u8], start: usize, price: u32) -> Plan {
    let places = places(all);
    let bytes = all.len() - start;
    let none = Match {
        length: 0,
        offset: 0,
    };
    let mut plan = Plan {
        matched: vec![(NEVER, none); bytes + 1],
        run: vec![(0, 0); bytes + 1],
        token: vec![(NEVER, 0); bytes + 1],
    };
    for at in (0..bytes).rev() {
        plan.matched[at] = best_match(all, start + at, &places, price, |length| {
            plan.token.get(at + length).map_or(NEVER, |token| token.0)
        });
        let literal = |at: usize| cost_of(all[start + at]) + LITERALS.1 * price / 64;
        let (cost, literals) = plan.run[at + 1];
        let on = (literal(at) + cost, literals + 1);
        plan.run[at] = on.min((plan.matched[at].0, 0));
        let (mut best, mut literals, mut before) = (NEVER, 0, BYTE + SEQUENCE * price);
        for run in 0..LONG.min(bytes - at) {
            let cost = before + plan.matched[at + run].0;
            if cost < best {
                (best, literals) = (cost, run);
            }
            before += literal(at + run);
        }
        if at + LONG <= bytes {
            let (cost, more) = plan.run[at + LONG];
            let cost = before + BYTE + LITERALS.0 * price + cost;
            if cost < best {
                (best, literals) = (cost, LONG + more);
            }
        }
        plan.token[at] = (best, literals);
    }
    plan
}

/// For each byte the last one before it where the same four bytes begin.
fn places(all: &[u8]) -> Vec<Option<usize>> {
    let mut last = HashMap::new();
    all.windows(SHORTEST)
        .enumerate()
        .map(|(at, bytes)| last.insert(bytes, at))
        .collect()
}

fn best_match(
    all: &[u8],
    at: usize,
    places: &[Option<usize>],
    price: u32,
    behind: impl Fn(usize) -> u32,
) -> (u32, Match) {
    let mut best = (
        NEVER,
        Match {
            length: 0,
            offset: 0,
        },
    );
    // The longest so far, by the bytes of their offset that cost something.
    let mut longest = [SHORTEST - 1; 3];
    let mut place = places.get(at).copied().flatten();
    for _ in 0..PLACES {
        let Some(found) = place.filter(|place| at - place <= FARTHEST) else {
            break;
        };
        place = places[found];
        let offset = at - found;
        if offset < NEAREST {
            continue;
        }
        let pairs = all[at..].iter().zip(&all[found..]).take(LONGEST);
        let length = pairs.take_while(|(one, other)| one == other).count();
        let cost: u32 = (offset as u16).to_le_bytes().into_iter().map(cost_of).sum();
        let class = (cost / BYTE) as usize;
        for length in longest[class] + 1..=length {
            if AWKWARD.contains(&length) {
                continue;
            }
            let mut instructions = 0;
            let mut cost = cost;
            if length >= SHORTEST + LONG {
                instructions = MATCH.0 + (length as u32 - 1) / 16 * MATCH.1;
                cost += BYTE;
            }
            let cost = cost + instructions * price + behind(length);
            if cost < best.0 {
                best = (cost, Match { length, offset });
            }
        }
        for longest in &mut longest[class..] {
            *longest = length.max(*longest);
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unpacked(before: &[u8], block: &[u8], size: usize) -> Vec<u8> {
        let (lz4, end) = block.split_at(block.len() - 2);
        assert_eq!(end, [0, 0]);
        lz4_flex::block::decompress_with_dict(lz4, size, before).unwrap()
    }

    /// Bytes with something to find in them.
    fn sample() -> Vec<u8> {
        let mut state = 1_u32;
        let mut sample = Vec::new();
        while sample.len() < 5000 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let [kind, from, length, value] = state.to_le_bytes().map(usize::from);
            match kind % 3 {
                0 => sample.extend(std::iter::repeat_n(0, length % 40)),
                1 if sample.len() > from + length => sample.extend_from_within(from..from + length),
                _ => sample.extend([value as u8, from as u8, length as u8, kind as u8, 7]),
            }
        }
        sample
    }

    #[test]
    fn an_lz4_library_unpacks_what_is_packed() {
        let sample = sample();
        for price in [0, 1, 15, 200, 5000] {
            for before in [0, 20, 700] {
                let (before, data) = sample.split_at(before);
                let block = block(before, data, price).unwrap();
                assert_eq!(unpacked(before, &block, data.len()), data, "price {price}");
            }
        }
    }

    /// A length that begins in a nibble of the token and goes on at the start of `rest`.
    fn length(nibble: u8, rest: &mut &[u8]) -> usize {
        let mut length = usize::from(nibble);
        let mut goes_on = nibble == 15;
        while goes_on {
            let more = *rest.split_off_first().unwrap();
            length += usize::from(more);
            goes_on = more == 255;
        }
        length
    }

    #[test]
    fn the_firmware_can_unpack_it() {
        let sample = sample();
        for price in [0, 15] {
            let block = block(&[], &sample, price).unwrap();
            let mut rest = block.as_slice();
            loop {
                let token = *rest.split_off_first().unwrap();
                let literals = length(token >> 4, &mut rest);
                rest = &rest[literals..];
                let (offset, behind) = rest.split_first_chunk().unwrap();
                let offset = u16::from_le_bytes(*offset);
                rest = behind;
                if offset == 0 {
                    assert!(literals >= 15);
                    break;
                }
                assert!(offset >= 16);
                let length = 4 + length(token & 15, &mut rest);
                assert!(![17, 18].contains(&length) && length <= 273, "{length}");
            }
            assert!(rest.is_empty());
        }
    }

    #[test]
    fn instructions_have_their_price() {
        let sample = sample();
        let sizes = [0, 15, 200].map(|price| block(&[], &sample, price).unwrap().len());
        assert!(sizes.is_sorted(), "{sizes:?}");
        assert!(sizes[0] < sample.len() / 2);
    }

    #[test]
    fn too_little_is_refused() {
        let error = block(&[1; 100], &[1; 15], 0).unwrap_err();
        assert!(error.to_string().contains("found 15"), "{error}");
    }
}
