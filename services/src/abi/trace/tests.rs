//! Thunks in a table of the test's own: what the functions behind them see, what
//! their callers see, and what is remembered meanwhile.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use super::*;
use std::sync::MutexGuard;

/// There is one trace in the process: one test at a time.
static TURN: std::sync::Mutex<()> = std::sync::Mutex::new(());
/// What [`six`] and [`outer`] call within.
static WITHIN: AtomicUsize = AtomicUsize::new(0);

type Six = unsafe extern "efiapi" fn(usize, usize, usize, usize, usize, usize) -> usize;
type Three = unsafe extern "efiapi" fn(usize, usize, usize) -> usize;

unsafe extern "efiapi" fn six(a: usize, b: usize, c: usize, d: usize, e: usize, f: usize) -> usize {
    a | b << 8 | c << 16 | d << 24 | e << 32 | f << 40
}

/// Looks at what is remembered, and calls what lies in [`WITHIN`].
unsafe extern "efiapi" fn outer(a: usize, b: usize, c: usize) -> usize {
    assert_eq!(depth(), 1);
    let address = WITHIN.load(Ordering::Relaxed);
    let inner: *const () = ptr::with_exposed_provenance(address);
    // SAFETY: the test stores the address of such a function.
    let inner = unsafe { core::mem::transmute::<*const (), Six>(inner) };
    // SAFETY: it takes any numbers.
    let inner = unsafe { inner(a, b, c, 4, 5, 6) };
    assert_eq!(depth(), 1);
    inner
}

/// The boot services table with these two in it.
struct World {
    slots: [usize; catalog::RUNTIME],
    _turn: MutexGuard<'static, ()>,
}

impl Drop for World {
    fn drop(&mut self) {
        WANTED.store(null_mut(), Ordering::Relaxed);
    }
}

fn world(line: &str) -> World {
    let turn = TURN
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut slots = [0; catalog::RUNTIME];
    slots[slot("OpenProtocol")] = (six as *const ()).expose_provenance();
    slots[slot("HandleProtocol")] = (outer as *const ()).expose_provenance();
    let options = crate::options::take(&mut line.as_bytes().to_vec());
    configure(options, 0);
    exchange(catalog::BOOT, &mut slots);
    World { slots, _turn: turn }
}

fn slot(name: &str) -> usize {
    catalog::slot(name).unwrap()
}

impl World {
    fn open_protocol(&self, guid: *const Guid) -> usize {
        let function: *const () = ptr::with_exposed_provenance(self.slots[slot("OpenProtocol")]);
        // SAFETY: `six`, or the thunk before it.
        let function = unsafe { core::mem::transmute::<*const (), Six>(function) };
        // SAFETY: `six` takes any numbers; a null is not written to.
        unsafe { function(1, guid.expose_provenance(), 0, 4, 5, 6) }
    }

    fn handle_protocol(&self, a: usize, b: usize) -> usize {
        WITHIN.store(self.slots[slot("OpenProtocol")], Ordering::Relaxed);
        let function: *const () = ptr::with_exposed_provenance(self.slots[slot("HandleProtocol")]);
        // SAFETY: `outer`, or the thunk before it.
        let function = unsafe { core::mem::transmute::<*const (), Three>(function) };
        // SAFETY: `outer` takes any numbers.
        unsafe { function(a, b, 0) }
    }
}

#[test]
fn nothing_wanted_changes_nothing() {
    let world = world("quiet");
    assert_eq!(world.slots[slot("OpenProtocol")], (six as *const ()).addr());
    assert_eq!(depth(), 0);
}

#[test]
#[cfg_attr(miri, ignore = "calls assembly")]
fn a_traced_call_has_all_its_arguments_and_its_result() {
    let world = world("ovmf-lite.trace");
    assert_ne!(world.slots[slot("OpenProtocol")], (six as *const ()).addr());
    let before = NEXT.load(Ordering::Relaxed);
    assert_eq!(world.open_protocol(ptr::null()), 0x0605_0400_0001);
    assert_eq!(NEXT.load(Ordering::Relaxed), before + 1);
    assert_eq!(depth(), 0);
    assert_eq!(world.slots[slot("CopyMem")], 0, "an empty slot stays empty");
}

#[test]
#[cfg_attr(miri, ignore = "calls assembly")]
fn calls_within_calls_return_to_their_callers() {
    let world = world("ovmf-lite.trace");
    let guid = catalog::guid_of("LoadFile2").unwrap();
    let address = (&raw const guid).expose_provenance();
    let expected = 0x0605_0400_0000 | 7 | address << 8;
    assert_eq!(world.handle_protocol(7, address), expected);
    assert_eq!(depth(), 0);
}

#[test]
#[cfg_attr(miri, ignore = "calls assembly")]
fn what_is_denied_is_not_called() {
    let world = world("ovmf-lite.deny=HandleProtocol=NOT_FOUND");
    assert_eq!(world.handle_protocol(0, 0), Status::NOT_FOUND.0);
    let real = (six as *const ()).addr();
    assert_eq!(world.slots[slot("OpenProtocol")], real, "is not looked at");
}

#[test]
#[cfg_attr(miri, ignore = "calls assembly")]
fn a_denial_may_be_of_one_protocol() {
    let world = world("ovmf-lite.deny=OpenProtocol:LoadFile2 ovmf-lite.trace");
    let denied = catalog::guid_of("LoadFile2").unwrap();
    let other = catalog::guid_of("BlockIo").unwrap();
    assert_eq!(
        world.open_protocol(&raw const denied),
        Status::UNSUPPORTED.0
    );
    assert_ne!(world.open_protocol(&raw const other), Status::UNSUPPORTED.0);
    assert_eq!(depth(), 0);
}

#[test]
fn pairs_are_searched_for_a_protocol() {
    let (a, b) = (
        catalog::guid_of("BlockIo").unwrap(),
        catalog::guid_of("LoadFile2").unwrap(),
    );
    let address = |guid: &Guid| ptr::from_ref(guid).expose_provenance();
    let arguments = [0, address(&a), 1, address(&b), 2, 0, 0];
    let given = arguments.as_ptr().expose_provenance();
    let install = slot("InstallMultipleProtocolInterfaces");
    assert!(names(install, given, a) && names(install, given, b));
    assert!(!names(install, given, Guid::ZERO));
}

#[test]
fn every_runtime_service_has_its_bit() {
    let bits: Vec<u32> = (44..58).map(property).collect();
    let expected = [
        0x1, 0x2, 0x4, 0x8, 0x80, 0x100, 0x10, 0x20, 0x40, 0x200, 0x400, 0x800, 0x1000, 0x2000,
    ];
    assert_eq!(bits, expected);
}

#[test]
fn a_line_says_what_was_passed() {
    let guid = catalog::guid_of("GlobalVariable").unwrap();
    let name: Vec<u16> = "Boot\"\n\0".encode_utf16().collect();
    let size = 0x123_u64;
    let mut call = Call {
        number: 1,
        slot: slot("GetVariable"),
        frame: 0,
        back: 0,
        arguments: [0; ARGUMENTS],
        start: 0,
        entered: 0,
    };
    call.arguments[0] = name.as_ptr().expose_provenance();
    call.arguments[1] = (&raw const guid).expose_provenance();
    call.arguments[3] = (&raw const size).expose_provenance();
    assert_eq!(call.known(), 5);
    let written = |call: &Call, kinds, status| {
        let mut text = String::new();
        call.write_arguments(&mut text, kinds, Some(status));
        text
    };
    let after = written(&call, "sgdnx", Status::SUCCESS);
    assert_eq!(after, "\"Boot..\", GlobalVariable, 0x0, *0x123, 0x0");
    call.arguments = [1, 2, 0xffff_ffff_0000_0003, 0, 0, 0, 0, 0];
    let types = written(&call, "atwb", Status::NOT_FOUND);
    assert_eq!(types, "MaxAddress, LoaderData, 0x3, 0x0");
}
