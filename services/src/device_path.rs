//! Device paths: lists of typed nodes that end in an End node.
//!
//! UEFI 2.11 §10.2, §10.3. Pure bytes: nothing here follows a pointer, a
//! malformed path is refused and a path without an End node ends where its
//! bytes end.

/// Length of a node's header: type, sub-type, little-endian length.
pub const HEADER: usize = 4;
/// `END_DEVICE_PATH_TYPE`.
const END: u8 = 0x7f;
/// `END_ENTIRE_DEVICE_PATH_SUBTYPE`.
const END_ENTIRE: u8 = 0xff;
/// Bytes after which a path without an End node is taken for garbage.
pub const MAX_LENGTH: usize = 64 * 1024;

/// A node's header, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    kind: u8,
    sub_type: u8,
    /// Length of the whole node in bytes, at least [`HEADER`].
    pub length: usize,
}

impl Header {
    /// Checks a node header; `None` when its length cannot hold itself.
    #[must_use]
    pub fn parse(bytes: [u8; HEADER]) -> Option<Self> {
        let [kind, sub_type, low, high] = bytes;
        let length = usize::from(u16::from_le_bytes([low, high]));
        (length >= HEADER).then_some(Self {
            kind,
            sub_type,
            length,
        })
    }

    /// Whether this node ends the whole path.
    #[must_use]
    pub fn ends_path(self) -> bool {
        self.kind == END && self.sub_type == END_ENTIRE
    }
}

/// How many bytes of `path` the nodes of `prefix` cover, End node not counted,
/// when every node of `prefix` is found at the start of `path`.
///
/// Both end in an End node; a node is compared whole, so a prefix never ends
/// inside one.
#[must_use]
pub fn match_prefix(prefix: &[u8], path: &[u8]) -> Option<usize> {
    let mut matched = 0;
    loop {
        let ours = node_at(prefix, matched)?;
        if Header::parse(*ours.first_chunk()?)?.ends_path() {
            return Some(matched);
        }
        if ours != node_at(path, matched)? {
            return None;
        }
        matched = matched.checked_add(ours.len())?;
    }
}

/// The node at byte `offset` of `path`, header included.
fn node_at(path: &[u8], offset: usize) -> Option<&[u8]> {
    let rest = path.get(offset..)?;
    let header = Header::parse(*rest.first_chunk()?)?;
    rest.get(..header.length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const END_NODE: [u8; 4] = [0x7f, 0xff, 4, 0];
    const PCI: [u8; 6] = [1, 1, 6, 0, 2, 1];
    const DISK: [u8; 8] = [3, 1, 8, 0, 9, 9, 9, 9];

    fn path(nodes: &[&[u8]]) -> Vec<u8> {
        [nodes.concat(), END_NODE.to_vec()].concat()
    }

    #[test]
    fn a_path_is_its_own_prefix() {
        let whole = path(&[&PCI, &DISK]);
        assert_eq!(match_prefix(&whole, &whole), Some(PCI.len() + DISK.len()));
    }

    #[test]
    fn the_remainder_starts_behind_the_matched_nodes() {
        assert_eq!(
            match_prefix(&path(&[&PCI]), &path(&[&PCI, &DISK])),
            Some(PCI.len())
        );
        assert_eq!(match_prefix(&path(&[]), &path(&[&PCI])), Some(0));
    }

    #[test]
    fn a_longer_or_different_path_is_no_prefix() {
        assert_eq!(match_prefix(&path(&[&PCI, &DISK]), &path(&[&PCI])), None);
        assert_eq!(match_prefix(&path(&[&DISK]), &path(&[&PCI])), None);
    }

    #[test]
    fn a_node_too_short_for_its_header_is_refused() {
        assert_eq!(Header::parse([1, 1, 3, 0]), None);
        assert_eq!(match_prefix(&[1, 1, 0, 0], &path(&[&PCI])), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(a in proptest::collection::vec(any::<u8>(), 0..64),
                                  b in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Some(matched) = match_prefix(&a, &b) {
                prop_assert!(matched <= a.len());
                prop_assert_eq!(a.get(..matched), b.get(..matched));
            }
        }
    }
}
