//! A store that answers a few paths, one that misbehaves, and one that is dead.

#![expect(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "a test that goes wrong should panic where it does"
)]

use super::super::simulated::Page;
use super::*;
use proptest::prelude::*;
use std::cell::RefCell;
use std::collections::BTreeMap;

/// What a store holds.
pub(in crate::xen) type Nodes = BTreeMap<String, String>;

/// What the store holds and how it behaves.
#[derive(Default)]
pub(in crate::xen) struct Behaviour {
    /// What it holds.
    pub values: RefCell<Nodes>,
    /// What somebody else does when a path has been written.
    reaction: Option<fn(&mut Nodes, &str)>,
    /// Bytes of requests that are not complete yet.
    pending: RefCell<Vec<u8>>,
    /// Answers that have not fitted into the ring yet.
    answers: RefCell<Vec<u8>>,
    /// Commits that are refused before one succeeds.
    refusals: Cell<u32>,
    /// A watch event in front of each answer.
    events: bool,
    /// Types of requests, in the order in which they came.
    seen: RefCell<Vec<u32>>,
}

impl Behaviour {
    /// A store that holds this.
    pub fn holding(values: &[(&'static str, &'static str)]) -> Self {
        Self {
            values: RefCell::new(
                values
                    .iter()
                    .map(|(path, value)| ((*path).into(), (*value).into()))
                    .collect(),
            ),
            ..Self::default()
        }
    }

    /// The same, where somebody else reacts to what is written.
    pub fn reacting(
        values: &[(&'static str, &'static str)],
        reaction: fn(&mut Nodes, &str),
    ) -> Self {
        Self {
            reaction: Some(reaction),
            ..Self::holding(values)
        }
    }

    /// One turn of the store: a few bytes in, a few bytes out.
    fn turn(&self, page: &Page<'_>) {
        let mut buffer = [0; 100];
        let pulled = REQUESTS.pull(page, &mut buffer).unwrap();
        self.pending.borrow_mut().extend(&buffer[..pulled]);
        while let Some((header, payload)) = self.request() {
            self.answer(header, &payload);
        }
        let mut answers = self.answers.borrow_mut();
        let few = answers.len().min(70);
        let pushed = ANSWERS.push(page, &answers[..few]).unwrap();
        answers.drain(..pushed);
    }

    fn request(&self) -> Option<([u32; 4], Vec<u8>)> {
        let mut pending = self.pending.borrow_mut();
        let header: &[u8; HEADER] = pending.first_chunk()?;
        let word = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().unwrap());
        let words = [0, 4, 8, 12].map(word);
        let end = HEADER + words[3] as usize;
        let payload = pending.get(HEADER..end)?.to_vec();
        pending.drain(..end);
        Some((words, payload))
    }

    fn answer(&self, [ty, request, transaction, _]: [u32; 4], payload: &[u8]) {
        self.seen.borrow_mut().push(ty);
        if self.events {
            self.put(WATCH_EVENT, 0, 0, b"path\0token\0");
        }
        let path = text(payload);
        let mut values = self.values.borrow_mut();
        let value = values.get(&path).cloned();
        match (ty, value) {
            (TRANSACTION_START, _) => self.put(ty, request, 0, b"42\0"),
            (TRANSACTION_END, _) if self.refusals.get() > 0 => {
                self.refusals.set(self.refusals.get() - 1);
                self.put(ERROR, request, transaction, b"EAGAIN\0");
            }
            (TRANSACTION_END, _) => self.put(ty, request, transaction, b"OK\0"),
            (READ, Some(value)) => self.put(ty, request, transaction, value.as_bytes()),
            (DIRECTORY, _) if values.keys().any(|at| is_below(at, &path)) => {
                let mut names: Vec<_> = values
                    .keys()
                    .filter_map(|at| name_below(at, &path))
                    .collect();
                names.dedup();
                self.put(ty, request, transaction, names.concat().as_bytes());
            }
            (WRITE, _) => {
                let value = String::from_utf8_lossy(&payload[path.len() + 1..]);
                values.insert(path.clone(), value.into_owned());
                if let Some(reaction) = self.reaction {
                    reaction(&mut values, &path);
                }
                self.put(ty, request, transaction, b"OK\0");
            }
            (REMOVE, Some(_)) => {
                values.remove(&path);
                self.put(ty, request, transaction, b"OK\0");
            }
            (READ, None) if path == "secret" => self.put(ERROR, request, transaction, b"EACCES\0"),
            _ => self.put(ERROR, request, transaction, b"ENOENT\0"),
        }
    }

    fn put(&self, ty: u32, request: u32, transaction: u32, payload: &[u8]) {
        let words = [
            ty,
            request,
            transaction,
            u32::try_from(payload.len()).unwrap(),
        ];
        let mut answers = self.answers.borrow_mut();
        answers.extend(words.map(u32::to_le_bytes).as_flattened());
        answers.extend(payload);
    }
}

fn is_below(at: &str, path: &str) -> bool {
    name_below(at, path).is_some()
}

/// The name, with a NUL, of the node in `path` that is `at` or above it.
fn name_below(at: &str, path: &str) -> Option<String> {
    let rest = at.strip_prefix(path)?.strip_prefix('/')?;
    Some(format!("{}\0", rest.split('/').next()?))
}

fn with_store<T>(
    behaviour: &Behaviour,
    work: impl Fn(&Transaction<'_, Page<'_>>) -> Result<T, Error>,
) -> Result<T, Error> {
    with(behaviour, |store| store.transaction(&work))
}

/// Does `work` with the store and expects the ring to be empty after.
pub(in crate::xen) fn with<T>(behaviour: &Behaviour, work: impl Fn(&Store<Page<'_>>) -> T) -> T {
    let back_end = |page: &Page<'_>| behaviour.turn(page);
    let page = Page::with(&back_end);
    let store = Store::new(page);
    let result = work(&store);
    for ring in [&REQUESTS, &ANSWERS] {
        assert_eq!(ring.used(&store.link), Ok(0), "left on the ring");
    }
    result
}

#[test]
fn values_are_read_in_one_transaction() {
    for events in [false, true] {
        let values = [("name", "guest"), ("long", "0123456789abcdef")];
        let behaviour = Behaviour {
            events,
            ..Behaviour::holding(&values)
        };
        let values = with_store(&behaviour, |t| t.read_all(["name", "none", "long"]));
        let [name, none, long] = values.unwrap();
        assert_eq!(name.as_deref(), Some(&b"guest"[..]));
        assert_eq!(none, None);
        assert_eq!(long.as_deref(), Some(&b"0123456789abcdef"[..]));
        let expected = [TRANSACTION_START, READ, READ, READ, TRANSACTION_END];
        assert_eq!(*behaviour.seen.borrow(), expected);
    }
}

#[test]
fn nodes_are_listed_written_watched_and_removed() {
    let behaviour = Behaviour::reacting(
        &[("a/1/x", ""), ("a/1/y", ""), ("a/2/x", ""), ("b", "")],
        |nodes, path| drop(nodes.insert("b/seen".into(), path.len().to_string())),
    );
    with(&behaviour, |store| {
        assert_eq!(store.list("a"), Ok(vec!["1".into(), "2".into()]));
        assert_eq!(store.list("none"), Ok(vec![]));
        assert_eq!(store.read("b", "seen"), Ok(None));
        assert_eq!(store.write("a", "3", "new value"), Ok(()));
        assert_eq!(store.read("a", "3"), Ok(Some("new value".into())));
        assert_eq!(store.watch("b", "seen", &|seen| seen == 3), Ok(3));
        assert_eq!(store.watch("b", "seen", &|seen| seen == 4), Ok(3));
        assert_eq!(store.remove("a", "3"), Ok(()));
        assert_eq!(store.remove("a", "3"), Ok(()));
        assert_eq!(store.read("a", "3"), Ok(None));
        assert_eq!(store.number("a", "3"), Ok(0));
    });
    let dead = Store::new(Page::default());
    assert_eq!(dead.watch("b", "seen", &|_| false), Err(Error::Silent));
}

#[test]
fn a_disturbed_transaction_starts_again_but_not_for_ever() {
    let behaviour = Behaviour::default();
    behaviour.refusals.set(2);
    let tries = Cell::new(0);
    let work = |t: &Transaction<'_, Page<'_>>| {
        tries.set(tries.get() + 1);
        t.read_all(["name"])
    };
    assert!(with_store(&behaviour, work).is_ok());
    assert_eq!(tries.get(), 3);
    behaviour.refusals.set(u32::MAX);
    assert_eq!(with_store(&behaviour, work), Err(Error::Again));
    assert_eq!(tries.get(), 3 + TRIES);
}

#[test]
fn a_refusal_is_passed_on_and_the_transaction_ended() {
    let behaviour = Behaviour::default();
    let result = with_store(&behaviour, |t| t.read_all(["secret"]));
    assert_eq!(result, Err(Error::Refused(Code::of(b"EACCES"))));
    assert_eq!(behaviour.seen.borrow().last(), Some(&TRANSACTION_END));
}

#[test]
fn too_much_at_once_is_refused_before_anything_is_sent() {
    let behaviour = Behaviour::default();
    let path = "x".repeat(600);
    let result = with_store(&behaviour, |t| t.read_all([path.as_str(), &path]));
    assert_eq!(result, Err(Error::TooLong(BATCH_MAX)));
    assert!(!behaviour.seen.borrow().contains(&READ));
}

#[test]
fn a_dead_store_is_given_up() {
    let store = Store::new(Page::default());
    let result = store.transaction(|t| t.read_all(["name"]));
    assert_eq!(result, Err(Error::Silent));
    store.link.store(CONNECTION, 1);
    let result = store.transaction(|t| t.read_all(["name"]));
    assert_eq!(result, Err(Error::Silent));
}

#[test]
fn answers_that_make_no_sense_are_errors() {
    let of = |words: [u32; 4]| {
        let page = Page::default();
        ANSWERS
            .push(&page, words.map(u32::to_le_bytes).as_flattened())
            .unwrap();
        Store::new(page).transaction(|t| t.read_all(["name"]))
    };
    assert_eq!(of([READ, 1, 0, 5000]), Err(Error::Answer(READ, 5000)));
    assert_eq!(of([READ, 1, 0, 0]), Err(Error::Answer(READ, 0)));
    // Not a number.
    assert_eq!(
        of([TRANSACTION_START, 1, 0, 0]),
        Err(Error::Answer(TRANSACTION_START, 0))
    );
}

proptest! {
    #[test]
    fn any_page_ends_in_an_answer_or_an_error(
        answers in proptest::collection::vec(any::<u8>(), 0..1024),
        indices in any::<[u32; 4]>(),
        wild in any::<bool>(),
    ) {
        let page = Page::default();
        ANSWERS.push(&page, &answers).unwrap();
        if wild {
            for (at, index) in [0x800, 0x804, 0x808, 0x80c].into_iter().zip(indices) {
                page.store(at, index);
            }
        }
        let store = Store::new(page);
        let _ = store.transaction(|t| t.read_all(["name", "vm"]));
    }
}
