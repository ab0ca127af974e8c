//! A model of the handle database: one flat list of interfaces, each with its
//! open list, and the access rules as the status table of UEFI 2.11 §7.3.9
//! gives them, line by line.

use super::*;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

/// Handles the operations choose from. Few, so that they meet; three of them
/// are there at the start.
const HANDLES: core::ops::RangeInclusive<usize> = 1..=4;
const GUIDS: [Guid; 2] = [A, B];

/// Operations in a row, fewer than this; the interpreter Miri is slow.
const OPERATIONS: usize = if cfg!(miri) { 10 } else { 100 };

#[derive(Clone, Debug)]
enum Operation {
    Install(Option<usize>, Vec<(usize, usize)>),
    Uninstall(usize, Vec<(usize, usize)>),
    Reinstall(usize, usize, usize, usize),
    Open(usize, usize, Option<usize>, Option<usize>, Mode),
    Close(usize, usize, usize, Option<usize>),
    RemoveImage(usize, usize, usize),
}

fn operation() -> impl Strategy<Value = Operation> {
    use Operation::{Close, Install, Open, Reinstall, RemoveImage, Uninstall};
    let (handle, guid, interface) = (HANDLES, 0..GUIDS.len(), 0..2_usize);
    let optional = proptest::option::of(handle.clone());
    let list = vec((guid.clone(), interface.clone()), 1..3);
    let legal: &'static [u32] = &[0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x30];
    let modes = select(legal).prop_map(|attributes| Mode::from_attributes(attributes).unwrap());
    let (h, g, i, o) = (handle, guid, interface, optional);
    prop_oneof![
        4 => (o.clone(), list.clone()).prop_map(|(h, l)| Install(h, l)),
        2 => (h.clone(), list).prop_map(|(h, l)| Uninstall(h, l)),
        1 => (h.clone(), g.clone(), i.clone(), i.clone()).prop_map(|(h, g, a, b)| Reinstall(h, g, a, b)),
        8 => (h.clone(), g.clone(), o.clone(), o.clone(), modes).prop_map(|(h, g, a, c, m)| Open(h, g, a, c, m)),
        3 => (h.clone(), g.clone(), h.clone(), o).prop_map(|(h, g, a, c)| Close(h, g, a, c)),
        1 => (h, g, i).prop_map(|(h, g, i)| RemoveImage(h, g, i)),
    ]
}

/// An installed interface. Handles are numbered by their creation.
struct Entry {
    handle: usize,
    guid: Guid,
    interface: usize,
    opens: Vec<(Opener, u32)>,
}

#[derive(Default)]
struct Model {
    created: usize,
    entries: Vec<Entry>,
}

fn id(handle: usize) -> HandleId {
    HandleId::of(HANDLE_BASE.wrapping_add(handle))
}

fn list(choices: &[(usize, usize)]) -> Vec<Protocol> {
    let chosen = choices
        .iter()
        .filter_map(|(guid, i)| Some((*GUIDS.get(*guid)?, Interface(*i))));
    chosen.collect()
}

impl Model {
    fn exists(&self, handle: HandleId) -> bool {
        self.entries.iter().any(|entry| id(entry.handle) == handle)
    }

    fn find(&mut self, handle: usize, guid: Guid) -> Result<&mut Entry, Error> {
        if !self.exists(id(handle)) {
            return Err(Error::UnknownHandle);
        }
        let mut entries = self.entries.iter_mut();
        entries
            .find(|e| e.handle == handle && e.guid == guid)
            .ok_or(Error::NotFound)
    }

    /// One after the other, and back when one fails.
    fn install(
        &mut self,
        handle: Option<usize>,
        protocols: &[Protocol],
    ) -> Result<HandleId, Error> {
        let (created, length) = (self.created, self.entries.len());
        if handle.is_some_and(|handle| !self.exists(id(handle))) {
            return Err(Error::UnknownHandle);
        }
        let handle = handle.unwrap_or_else(|| {
            self.created = self.created.wrapping_add(1);
            self.created
        });
        for (guid, Interface(interface)) in protocols {
            if self
                .entries
                .iter()
                .any(|e| e.handle == handle && e.guid == *guid)
            {
                (self.created, _) = (created, self.entries.truncate(length));
                return Err(Error::AlreadyInstalled);
            }
            self.entries.push(Entry {
                handle,
                guid: *guid,
                interface: *interface,
                opens: vec![],
            });
        }
        Ok(id(handle))
    }

    fn removable(&mut self, handle: usize, (guid, interface): Protocol) -> Result<(), Error> {
        let entry = self.find(handle, guid)?;
        if Interface(entry.interface) != interface {
            return Err(Error::NotFound);
        }
        let open = |bits: u32| {
            entry
                .opens
                .iter()
                .any(|(o, _)| o.mode.attributes() & bits != 0)
        };
        if open(0x08 | 0x10 | 0x20) {
            Err(Error::InUse)
        } else {
            Ok(())
        }
    }

    fn uninstall(&mut self, handle: usize, protocols: &[Protocol]) -> Result<(), Error> {
        for protocol in protocols {
            self.removable(handle, *protocol)?;
        }
        if protocols.len() == 2 && protocols.first().map(|p| p.0) == protocols.last().map(|p| p.0) {
            return Err(Error::NotFound);
        }
        let named = |entry: &Entry| protocols.iter().any(|(guid, _)| *guid == entry.guid);
        self.entries
            .retain(|entry| entry.handle != handle || !named(entry));
        Ok(())
    }

    fn reinstall(
        &mut self,
        handle: usize,
        guid: Guid,
        old: usize,
        new: usize,
    ) -> Result<(), Error> {
        self.removable(handle, (guid, Interface(old)))?;
        let entry = self.find(handle, guid)?;
        (entry.interface, entry.opens) = (new, vec![]);
        Ok(())
    }

    fn open(&mut self, handle: usize, guid: Guid, opener: Opener) -> Result<(), Error> {
        let invalid = |who: Option<HandleId>| !who.is_some_and(|who| self.exists(who));
        let (agent, controller) = (invalid(opener.agent), invalid(opener.controller));
        let bad = match opener.mode.attributes() {
            0x08 | 0x10 | 0x30 => agent || controller,
            0x20 => agent,
            _ => false,
        };
        if bad || !self.exists(id(handle)) {
            return Err(Error::UnknownHandle);
        }
        if opener.mode.attributes() == 0x08 && opener.controller == Some(id(handle)) {
            return Err(Error::OwnChild);
        }
        let entry = self.find(handle, guid)?;
        for (other, _) in &entry.opens {
            let same = other.agent == opener.agent;
            match (opener.mode.attributes(), other.mode.attributes()) {
                (0x10, 0x10) | (0x30, 0x30) if same => return Err(Error::AlreadyStarted),
                (0x10, 0x10) | (0x30, 0x30) => return Err(Error::InUse),
                (0x10, 0x20 | 0x30) | (0x30, 0x20) | (0x20, 0x20 | 0x30) => {
                    return Err(Error::InUse);
                }
                // The driver cannot be disconnected.
                (0x20 | 0x30, 0x10) => return Err(Error::InUse),
                _ => {}
            }
        }
        match entry.opens.iter_mut().find(|(other, _)| *other == opener) {
            Some((_, count)) => *count = count.wrapping_add(1),
            None if opener.agent.is_some() => entry.opens.push((opener, 1)),
            None => {}
        }
        Ok(())
    }

    fn close(
        &mut self,
        handle: usize,
        guid: Guid,
        agent: usize,
        controller: Option<usize>,
    ) -> Result<(), Error> {
        let controller = controller.map(id);
        if !self.exists(id(agent)) || controller.is_some_and(|c| !self.exists(c)) {
            return Err(Error::UnknownHandle);
        }
        let entry = self.find(handle, guid)?;
        let before = entry.opens.len();
        entry
            .opens
            .retain(|(o, _)| (o.agent, o.controller) != (Some(id(agent)), controller));
        if entry.opens.len() == before {
            Err(Error::NotFound)
        } else {
            Ok(())
        }
    }

    fn remove_image(&mut self, handle: usize, guid: Guid, interface: usize) {
        let gone = |e: &Entry| (e.handle, e.guid, e.interface) == (handle, guid, interface);
        self.entries.retain(|entry| !gone(entry));
        for entry in &mut self.entries {
            entry
                .opens
                .retain(|(opener, _)| opener.agent != Some(id(handle)));
        }
    }
}

/// Does the same to both, which must say the same.
fn apply(real: &mut Handles, model: &mut Model, operation: &Operation) {
    let guid = |index: &usize| *GUIDS.get(*index).unwrap();
    match operation {
        Operation::Install(handle, choices) => {
            let list = list(choices);
            let found = real.install_all(handle.map(id), &list);
            assert_eq!(found, model.install(*handle, &list));
        }
        Operation::Uninstall(handle, choices) => {
            let list = list(choices);
            let found = real.uninstall_all(id(*handle), &list);
            assert_eq!(found, model.uninstall(*handle, &list));
        }
        Operation::Reinstall(handle, g, old, new) => {
            let found = real.reinstall(id(*handle), guid(g), Interface(*old), Interface(*new));
            assert_eq!(found, model.reinstall(*handle, guid(g), *old, *new));
        }
        Operation::Open(handle, g, agent, controller, mode) => {
            let (agent, controller) = (agent.map(id), controller.map(id));
            let opener = Opener {
                agent,
                controller,
                mode: *mode,
            };
            let found = real.open(id(*handle), guid(g), opener);
            assert_eq!(found, model.open(*handle, guid(g), opener));
        }
        Operation::Close(handle, g, agent, controller) => {
            let found = real.close(id(*handle), guid(g), id(*agent), controller.map(id));
            assert_eq!(found, model.close(*handle, guid(g), *agent, *controller));
        }
        Operation::RemoveImage(handle, g, interface) => {
            real.remove_image(id(*handle), guid(g), Interface(*interface));
            model.remove_image(*handle, guid(g), *interface);
        }
    }
}

/// Both hold the same.
fn compare(real: &Handles, model: &mut Model) {
    assert_eq!(real.installed.len(), model.entries.len());
    assert_eq!(
        real.opens.len(),
        model.entries.iter().map(|e| e.opens.len()).sum::<usize>()
    );
    for entry in &model.entries {
        let found = real.interface(id(entry.handle), entry.guid);
        assert_eq!(found, Ok(Interface(entry.interface)));
        let records = real.opened(id(entry.handle), entry.guid).unwrap();
        let records: Vec<_> = records.collect();
        let records: Vec<_> = records.iter().map(|r| (r.opener, r.count)).collect();
        assert_eq!(records, entry.opens);
    }
}

proptest! {
    #[test]
    fn the_database_does_what_the_model_does(operations in vec(operation(), 0..OPERATIONS)) {
        let (mut real, mut model) = (Handles::new(), Model::default());
        for _ in 0..3 {
            apply(&mut real, &mut model, &Operation::Install(None, vec![(0, 0)]));
        }
        for operation in &operations {
            apply(&mut real, &mut model, operation);
            compare(&real, &mut model);
        }
    }
}
