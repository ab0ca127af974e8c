//! Events against the rules of UEFI 2.11 §7.1 one by one, and against a model that
//! keeps a list of events and one of notifications, in the order of their coming.
#![expect(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use super::*;
use core::ffi::c_void;
use proptest::prelude::*;
use proptest::sample::select;

const A: Guid = guid!("00000001-0000-0000-0000-000000000000");
const SIGNAL: EventType = EventType::NOTIFY_SIGNAL;
const WAIT: EventType = EventType::NOTIFY_WAIT;
const TIMER: EventType = EventType::TIMER;

extern "efiapi" fn function(_: Event, _: *mut c_void) {}

fn notify(context: usize) -> Option<Notify> {
    Some(Notify { function, context })
}

impl Events {
    fn signals(&mut self, tpl: Tpl, group: Option<Guid>) -> EventId {
        self.create(SIGNAL, tpl, notify(0), group).unwrap()
    }

    /// The events whose notifications are due above `above`, in their order.
    fn due(&mut self, above: Tpl) -> Vec<EventId> {
        core::iter::from_fn(|| self.next(above).map(|call| call.event)).collect()
    }
}

#[test]
fn kinds_and_levels_are_checked() {
    let mut events = Events::new();
    let mut create = |kind, tpl, notify, group| events.create(kind, tpl, notify, group).is_ok();
    for kind in [EventType::empty(), TIMER, TIMER | EventType::RUNTIME] {
        assert!(create(kind, Tpl(0), None, None));
    }
    for kind in [SIGNAL, WAIT, TIMER | SIGNAL, TIMER | WAIT] {
        assert!(create(kind, Tpl::NOTIFY, notify(0), None));
        assert!(!create(kind, Tpl::NOTIFY, None, None));
        for tpl in [Tpl::APPLICATION, Tpl::HIGH_LEVEL, Tpl(0)] {
            assert!(!create(kind, tpl, notify(0), None));
        }
    }
    for kind in [0x301, 0x300, 0x1, 0x400, 0x202, 0x8000_0201] {
        let kind = EventType::from_bits_retain(kind);
        assert!(!create(kind, Tpl::NOTIFY, notify(0), None), "{kind:?}");
    }
    for kind in [
        EventType::SIGNAL_EXIT_BOOT_SERVICES,
        EventType::SIGNAL_VIRTUAL_ADDRESS_CHANGE,
    ] {
        assert!(create(kind, Tpl::CALLBACK, notify(0), None));
        assert!(!create(kind, Tpl::CALLBACK, notify(0), Some(A)));
    }
}

#[test]
fn the_highest_level_comes_first_and_then_who_was_first() {
    let mut events = Events::new();
    let [low, high, late] =
        [Tpl::CALLBACK, Tpl::NOTIFY, Tpl::CALLBACK].map(|tpl| events.signals(tpl, None));
    for id in [late, low, high, low] {
        events.signal(id).unwrap();
    }
    assert_eq!(events.due(Tpl::NOTIFY), []);
    assert_eq!(events.due(Tpl::CALLBACK), [high]);
    assert_eq!(events.due(Tpl::APPLICATION), [late, low]);
    assert_eq!(events.due(Tpl::APPLICATION), []);
}

#[test]
fn a_group_is_signalled_by_each_of_its_events_and_by_name() {
    let mut events = Events::new();
    let first = events.signals(Tpl::CALLBACK, Some(A));
    let other = events.signals(Tpl::CALLBACK, None);
    let silent = events.create(EventType::empty(), Tpl(0), None, Some(A));
    let silent = silent.unwrap();
    let second = events.signals(Tpl::NOTIFY, Some(A));
    events.signal(silent).unwrap();
    assert_eq!(events.due(Tpl::APPLICATION), [second, first]);
    assert_eq!(events.check(silent), Ok(true));
    assert_eq!(events.check(silent), Ok(false));
    events.signal_group(A);
    assert_eq!(events.due(Tpl::APPLICATION), [second, first]);
    events.signal(other).unwrap();
    assert_eq!(events.due(Tpl::APPLICATION), [other]);
}

#[test]
fn who_asks_for_a_waited_event_makes_its_notification_due() {
    let mut events = Events::new();
    let id = events.create(WAIT, Tpl::NOTIFY, notify(7), None).unwrap();
    assert_eq!(events.check(id), Ok(false));
    let call = events.next(Tpl::APPLICATION).unwrap();
    assert_eq!((call.event, call.notify.context), (id, 7));
    events.signal(id).unwrap();
    assert!(events.next(Tpl::APPLICATION).is_none());
    assert_eq!(events.take(id), Ok(true));
    assert_eq!(events.take(id), Ok(false));
    let signals = events.signals(Tpl::NOTIFY, None);
    assert_eq!(events.check(signals), Err(Error::Invalid));
}

#[test]
fn what_is_closed_is_gone_with_its_notification() {
    let mut events = Events::new();
    let id = events.signals(Tpl::CALLBACK, None);
    events.signal(id).unwrap();
    assert_eq!(events.close(id), Ok(()));
    assert_eq!(events.due(Tpl::APPLICATION), []);
    assert_eq!(events.close(id), Err(Error::Invalid));
    assert_eq!(events.signal(id), Err(Error::Invalid));
    assert_ne!(events.signals(Tpl::CALLBACK, None), id);
}

#[test]
fn timers_end_once_or_again_and_again() {
    let mut events = Events::new();
    let mut timer = || events.create(TIMER, Tpl(0), None, None).unwrap();
    let (once, often, tick) = (timer(), timer(), timer());
    let plain = events
        .create(EventType::empty(), Tpl(0), None, None)
        .unwrap();
    let refused = events.set_timer(plain, Timer::Relative(1), 0);
    assert_eq!(refused, Err(Error::Invalid));
    assert!(!events.has_timers());
    events.set_timer(once, Timer::Relative(50), 100).unwrap();
    events.set_timer(often, Timer::Periodic(100), 100).unwrap();
    events.set_timer(tick, Timer::Periodic(0), 100).unwrap();
    let at = |events: &mut Events, now| {
        events.expire(now);
        [once, often, tick].map(|id| events.take(id).unwrap())
    };
    assert_eq!(at(&mut events, 149), [false; 3]);
    assert_eq!(at(&mut events, 150), [true, false, false]);
    // Two periods were missed: they count once, and the rhythm stays.
    assert_eq!(at(&mut events, 450), [false, true, false]);
    assert_eq!(at(&mut events, 499), [false; 3]);
    assert_eq!(at(&mut events, 500), [false, true, false]);
    assert_eq!(at(&mut events, 100 + TICK), [false, true, true]);
    events.set_timer(often, Timer::Cancel, 0).unwrap();
    events.close(tick).unwrap();
    assert!(!events.has_timers());
    events
        .set_timer(once, Timer::Relative(0), u64::MAX)
        .unwrap();
    events.expire(u64::MAX);
}

#[test]
fn there_is_an_end_to_events_and_to_listeners() {
    let mut events = Events::new();
    let listener = |events: &mut Events| {
        let kind = EventType::SIGNAL_VIRTUAL_ADDRESS_CHANGE;
        events.create(kind, Tpl::NOTIFY, notify(0), None)
    };
    for _ in 0..MAX_LISTENERS {
        assert!(listener(&mut events).is_ok());
    }
    assert_eq!(listener(&mut events), Err(Error::Full));
    let group = group::VIRTUAL_ADDRESS_CHANGE;
    assert_eq!(events.of_group(group).count(), MAX_LISTENERS);
    let mut create = || events.create(TIMER, Tpl(0), None, None);
    let more = (0..).take_while(|_| create().is_ok()).count();
    assert_eq!(more + MAX_LISTENERS, MAX_EVENTS);
}

#[derive(Clone, Debug)]
enum Operation {
    Create(EventType, Tpl, bool),
    Close(usize),
    Signal(usize),
    Group,
    Check(usize),
    Timer(usize, Timer),
    Pass(u64),
    Next(Tpl),
}

fn operation() -> impl Strategy<Value = Operation> {
    use Operation::{Check, Close, Create, Group, Next, Pass, Signal, Timer as Set};
    let kinds = vec![
        EventType::empty(),
        TIMER,
        SIGNAL,
        WAIT,
        TIMER | SIGNAL,
        TIMER | WAIT,
    ];
    let levels = vec![Tpl::CALLBACK, Tpl::NOTIFY];
    let above = vec![
        Tpl::APPLICATION,
        Tpl::APPLICATION,
        Tpl::CALLBACK,
        Tpl::NOTIFY,
    ];
    let timers = prop_oneof![
        Just(Timer::Cancel),
        (1..30_u64).prop_map(Timer::Periodic),
        (0..30_u64).prop_map(Timer::Relative),
    ];
    let which = 0..8_usize;
    prop_oneof![
        3 => (select(kinds), select(levels), any::<bool>()).prop_map(|(k, l, g)| Create(k, l, g)),
        1 => which.clone().prop_map(Close),
        4 => which.clone().prop_map(Signal),
        1 => Just(Group),
        4 => which.clone().prop_map(Check),
        2 => (which, timers).prop_map(|(w, t)| Set(w, t)),
        3 => (0..20_u64).prop_map(Pass),
        4 => select(above).prop_map(Next),
    ]
}

/// An event as the model sees it; `due` and `period` of a timer.
struct Modelled {
    id: EventId,
    kind: EventType,
    tpl: Tpl,
    group: bool,
    signalled: bool,
    timer: Option<(u64, Option<u64>)>,
}

#[derive(Default)]
struct Model {
    events: Vec<Modelled>,
    /// Notifications, the first to come at the front.
    queue: Vec<(EventId, Tpl)>,
    now: u64,
}

impl Model {
    fn queue(&mut self, id: EventId, tpl: Tpl) {
        self.queue.retain(|(other, _)| *other != id);
        self.queue.push((id, tpl));
    }

    fn signal(&mut self, at: usize) {
        if self.events[at].signalled {
            return;
        }
        let grouped = self.events[at].group;
        for other in 0..self.events.len() {
            if other == at || grouped && self.events[other].group {
                self.raise(other);
            }
        }
    }

    fn raise(&mut self, at: usize) {
        let event = &mut self.events[at];
        let fresh = !core::mem::replace(&mut event.signalled, true);
        let (id, tpl) = (event.id, event.tpl);
        if fresh && event.kind.contains(SIGNAL) {
            self.queue(id, tpl);
        }
    }

    fn pass(&mut self, time: u64) {
        // One moment after the other, as a clock with an interrupt would have it.
        // Missed periods count once: nobody takes the signal meanwhile.
        for _ in 0..time {
            self.now += 1;
            self.tick();
        }
        // An end that was due already when it was set.
        self.tick();
    }

    fn tick(&mut self) {
        for at in 0..self.events.len() {
            if let Some((due, period)) = self.events[at].timer
                && due <= self.now
            {
                self.events[at].timer = period.map(|period| (due + period, Some(period)));
                self.signal(at);
            }
        }
    }

    fn create(&mut self, id: EventId, kind: EventType, tpl: Tpl, group: bool) {
        let (signalled, timer) = (false, None);
        self.events.push(Modelled {
            id,
            kind,
            tpl,
            group,
            signalled,
            timer,
        });
    }

    fn next(&mut self, above: Tpl) -> Option<EventId> {
        let level = self.queue.iter().map(|(_, tpl)| tpl.0).max()?;
        let at = self.queue.iter().position(|(_, tpl)| tpl.0 == level)?;
        if level <= above.0 {
            return None;
        }
        let (id, _) = self.queue.remove(at);
        let mut events = self.events.iter_mut();
        let event = events.find(|event| event.id == id).unwrap();
        event.signalled &= !event.kind.contains(SIGNAL);
        Some(id)
    }
}

fn apply(events: &mut Events, model: &mut Model, operation: Operation) {
    let pick = |model: &Model, at: usize| {
        let count = model.events.len();
        (count > 0).then(|| at % count.max(1))
    };
    match operation {
        Operation::Create(kind, tpl, group) => {
            let id = events.create(kind, tpl, notify(0), group.then_some(A));
            model.create(id.unwrap(), kind, tpl, group);
        }
        Operation::Close(at) => {
            if let Some(at) = pick(model, at) {
                let id = model.events.remove(at).id;
                model.queue.retain(|(other, _)| *other != id);
                assert_eq!(events.close(id), Ok(()));
                assert_eq!(events.check(id), Err(Error::Invalid));
            }
        }
        Operation::Signal(at) => {
            if let Some(at) = pick(model, at) {
                assert_eq!(events.signal(model.events[at].id), Ok(()));
                model.signal(at);
            }
        }
        Operation::Group => {
            events.signal_group(A);
            for at in 0..model.events.len() {
                if model.events[at].group {
                    model.raise(at);
                }
            }
        }
        Operation::Check(at) => {
            if let Some(at) = pick(model, at) {
                check(events, model, at);
            }
        }
        Operation::Timer(at, timer) => {
            if let Some(at) = pick(model, at) {
                set_timer(events, model, at, timer);
            }
        }
        Operation::Pass(time) => {
            model.pass(time);
            events.expire(model.now);
        }
        Operation::Next(above) => {
            let found = events.next(above).map(|call| call.event);
            assert_eq!(found, model.next(above));
        }
    }
}

fn check(events: &mut Events, model: &mut Model, at: usize) {
    let event = &mut model.events[at];
    let (id, tpl, kind) = (event.id, event.tpl, event.kind);
    let expected = match kind.contains(SIGNAL) {
        true => Err(Error::Invalid),
        false => Ok(core::mem::take(&mut event.signalled)),
    };
    if expected == Ok(false) && kind.contains(WAIT) {
        model.queue(id, tpl);
    }
    assert_eq!(events.check(id), expected);
}

fn set_timer(events: &mut Events, model: &mut Model, at: usize, timer: Timer) {
    let now = model.now;
    let event = &mut model.events[at];
    let found = events.set_timer(event.id, timer, now);
    assert_eq!(found.is_ok(), event.kind.contains(TIMER));
    if found.is_ok() {
        event.timer = match timer {
            Timer::Cancel => None,
            Timer::Relative(time) => Some((now + time, None)),
            Timer::Periodic(time) => Some((now + time, Some(time))),
        };
    }
}

proptest! {
    #[test]
    fn events_do_what_the_model_does(
        operations in proptest::collection::vec(operation(), 0..if cfg!(miri) { 20 } else { 200 }),
    ) {
        let (mut events, mut model) = (Events::new(), Model::default());
        for operation in operations {
            apply(&mut events, &mut model, operation);
        }
        let rest = core::iter::from_fn(|| model.next(Tpl::APPLICATION)).collect::<Vec<_>>();
        assert_eq!(events.due(Tpl::APPLICATION), rest);
    }
}
