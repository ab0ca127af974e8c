//! The names of what programs call and pass: services and protocol functions,
//! protocols, tables and vendors.
//!
//! A *slot* is a number for each function pointer of the two service tables and
//! of our own protocols, in the order of those structures (UEFI 2.11 §4.4, §4.5,
//! §12.2-12.4, §13.2, §37.5, §37.7). Names are those of the specification, without
//! `EFI_` and `_PROTOCOL`.

use crate::guids::{number, same};
use crate::text::push;
use alloc::string::String;
use uefi_raw::{Guid, guid};

/// First slot of the boot services.
pub const BOOT: usize = 0;
/// First slot of the runtime services.
pub const RUNTIME: usize = 44;
/// First slot of SIMPLE_TEXT_OUTPUT.
pub const OUTPUT: usize = 58;
/// First slot of SIMPLE_TEXT_INPUT.
pub const INPUT: usize = 67;
/// The slot of LOAD_FILE2.
pub const LOAD_FILE2: usize = 69;
/// First slot of SIMPLE_TEXT_INPUT_EX, whose third word is an event and no function.
pub const INPUT_EX: usize = 70;
/// First slot of RNG.
pub const RNG: usize = 76;
/// First slot of MEMORY_ATTRIBUTE.
pub const MEMORY_ATTRIBUTE: usize = 78;
/// Number of slots.
pub const SLOTS: usize = 81;

/// Defines a number for each service, and a line for each slot.
macro_rules! services {
    ($($name:ident $kinds:literal)*) => {
        /// A service of the two tables, by its slot, or the firmware itself.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        #[expect(missing_docs, reason = "the names are those of the specification")]
        #[allow(non_camel_case_types, reason = "so is this")]
        pub enum Service {
            $($name,)*
            Firmware,
        }

        /// A line for each slot: its name, a space, then what its arguments are, a
        /// letter each: `x` a number, handle or address, `b` and `w` one of 8 and 32
        /// bits, `n` and `d` the address of one of 64 and 32 bits that is written, `g`
        /// the address of a GUID, `s` of a string, `v` pairs of GUID and interface up to
        /// a null, `a` an allocation type, `t` a memory type, `e` a status. Behind them
        /// `-`: returns no status; `!`: does not return.
        static SERVICES: &str = concat!(
            $(stringify!($name), " ", $kinds, "\n",)*
            "SimpleTextOutput.Reset xb\n",
            "SimpleTextOutput.OutputString xs\n",
            "SimpleTextOutput.TestString xs\n",
            "SimpleTextOutput.QueryMode xxnn\n",
            "SimpleTextOutput.SetMode xx\n",
            "SimpleTextOutput.SetAttribute xx\n",
            "SimpleTextOutput.ClearScreen x\n",
            "SimpleTextOutput.SetCursorPosition xxx\n",
            "SimpleTextOutput.EnableCursor xb\n",
            "SimpleTextInput.Reset xb\n",
            "SimpleTextInput.ReadKeyStroke xd\n",
            "LoadFile2.LoadFile xxbnx\n",
            "SimpleTextInputEx.Reset xb\n",
            "SimpleTextInputEx.ReadKeyStrokeEx xd\n",
            "reserved \n",
            "SimpleTextInputEx.SetState xx\n",
            "SimpleTextInputEx.RegisterKeyNotify xxxn\n",
            "SimpleTextInputEx.UnregisterKeyNotify xx\n",
            "Rng.GetInfo xnx\n",
            "Rng.GetRNG xgxx\n",
            "MemoryAttribute.GetMemoryAttributes xxxn\n",
            "MemoryAttribute.SetMemoryAttributes xxxx\n",
            "MemoryAttribute.ClearMemoryAttributes xxxx\n",
        );
    };
}

services! {
    RaiseTPL "x-"
    RestoreTPL "x-"
    AllocatePages "atxn"
    FreePages "xx"
    GetMemoryMap "nxnnd"
    AllocatePool "txn"
    FreePool "x"
    CreateEvent "wxxxn"
    SetTimer "xwx"
    WaitForEvent "xxn"
    SignalEvent "x"
    CloseEvent "x"
    CheckEvent "x"
    InstallProtocolInterface "ngwx"
    ReinstallProtocolInterface "xgxx"
    UninstallProtocolInterface "xgx"
    HandleProtocol "xgn"
    reserved ""
    RegisterProtocolNotify "gxn"
    LocateHandle "wgxnx"
    LocateDevicePath "gnn"
    InstallConfigurationTable "gx"
    LoadImage "bxxxxn"
    StartImage "xnn"
    Exit "xexx"
    UnloadImage "x"
    ExitBootServices "xx"
    GetNextMonotonicCount "n"
    Stall "x"
    SetWatchdogTimer "xxxx"
    ConnectController "xxxb"
    DisconnectController "xxx"
    OpenProtocol "xgnxxw"
    CloseProtocol "xgxx"
    OpenProtocolInformation "xgnn"
    ProtocolsPerHandle "xnn"
    LocateHandleBuffer "wgxnn"
    LocateProtocol "gxn"
    InstallMultipleProtocolInterfaces "nv"
    UninstallMultipleProtocolInterfaces "xv"
    CalculateCrc32 "xxd"
    CopyMem "xxx-"
    SetMem "xxb-"
    CreateEventEx "wxxxgn"
    GetTime "xx"
    SetTime "x"
    GetWakeupTime "xxx"
    SetWakeupTime "bx"
    SetVirtualAddressMap "xxwx"
    ConvertPointer "xn"
    GetVariable "sgdnx"
    GetNextVariableName "nsg"
    SetVariable "sgwxx"
    GetNextHighMonotonicCount "d"
    ResetSystem "wexx!"
    UpdateCapsule "xxx"
    QueryCapsuleCapabilities "xxnd"
    QueryVariableInfo "wnnn"
}

/// The services that were to be enough for a small guest in 2016 (xen-devel,
/// "HVMLite / PVHv2 - using x86 EFI boot entry"): GetMemoryMap, Exit,
/// ExitBootServices, GetVariable, GetNextVariableName, SetVariable,
/// QueryVariableInfo. A bit for each slot.
pub const PROFILE_2016: u128 = 1 << 4 | 1 << 24 | 1 << 26 | 1 << 50 | 1 << 51 | 1 << 52 | 1 << 57;

/// The bits of both tables' services.
pub const SERVICES_OF_TABLES: u128 = (1 << OUTPUT) - 1;
/// The bits of the runtime services.
pub const RUNTIME_SERVICES: u128 = SERVICES_OF_TABLES & !((1 << RUNTIME) - 1);

/// The bit of a slot.
#[must_use]
pub const fn bit(slot: usize) -> u128 {
    if slot < SLOTS { 1 << slot } else { 0 }
}

/// `text` up to the first `at`, and what is behind it.
#[must_use]
#[inline(never)]
#[cold]
pub fn cut(text: &str, at: u8) -> (&str, &str) {
    let end = text.bytes().position(|byte| byte == at);
    let (head, tail) = text
        .split_at_checked(end.unwrap_or(text.len()))
        .unwrap_or((text, ""));
    (head, tail.get(1..).unwrap_or_default())
}

impl Service {
    /// What it is called in messages.
    #[must_use]
    #[cold]
    pub fn name(self) -> &'static str {
        match self as usize {
            OUTPUT.. => "the firmware",
            slot => service(slot).0,
        }
    }
}

/// The line of this number; empty when there are fewer.
#[must_use]
#[inline(never)]
#[cold]
pub fn line(mut lines: &str, number: usize) -> &str {
    for _ in 0..number.min(lines.len()) {
        lines = cut(lines, b'\n').1;
    }
    cut(lines, b'\n').0
}

/// Name and arguments of a slot.
#[must_use]
#[inline(never)]
pub fn service(slot: usize) -> (&'static str, &'static str) {
    cut(line(SERVICES, slot), b' ')
}

/// Which of a service's arguments is a GUID, or the first of many.
#[must_use]
#[cold]
pub fn guid_argument(slot: usize) -> Option<usize> {
    let mut kinds = service(slot).1.bytes();
    kinds.position(|kind| matches!(kind, b'g' | b'v'))
}

/// The slot of this name.
#[must_use]
pub fn slot(name: &str) -> Option<usize> {
    (0..SLOTS).find(|slot| service(*slot).0 == name)
}

/// Protocols, configuration tables and vendors that kernels and boot loaders ask
/// for (UEFI 2.11; Linux `include/linux/efi.h`; systemd-boot; shim).
static GUIDS: [Guid; 24] = [
    guid!("5b1b31a1-9562-11d2-8e3f-00a0c969723b"),
    guid!("bc62157e-3e33-4fec-9920-2d3b36d750df"),
    guid!("09576e91-6d3f-11d2-8e39-00a0c969723b"),
    guid!("8b843e20-8132-4852-90cc-551a4e4a7f1c"),
    guid!("387477c1-69c7-11d2-8e39-00a0c969723b"),
    guid!("dd9e7534-7762-4698-8c14-f58517a625aa"),
    guid!("387477c2-69c7-11d2-8e39-00a0c969723b"),
    guid!("4006c0c1-fcb3-403e-996d-4a6c8724e06d"),
    guid!("964e5b22-6459-11d2-8e39-00a0c969723b"),
    guid!("964e5b21-6459-11d2-8e39-00a0c969723b"),
    guid!("9042a9de-23dc-4a38-96fb-7aded080516a"),
    guid!("982c298b-f4fa-41cb-b838-77aa688fb839"),
    guid!("4cf5b200-68b8-4ca5-9eec-b23e3f50029a"),
    guid!("3152bca5-eade-433d-862e-c01cdc291f44"),
    guid!("607f766c-7455-42be-930b-e4d76db2720f"),
    guid!("96751a3d-72f4-41a6-a794-ed5d0e67ae6b"),
    guid!("f4560cf6-40ec-4b4a-a192-bf1d57d0b189"),
    guid!("8be4df61-93ca-11d2-aa0d-00e098032b8c"),
    guid!("4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"),
    guid!("605dab50-e046-4300-abb6-3dd810dd8b23"),
    guid!("e20939be-32d4-41be-a150-897f85d49829"),
    guid!("5568e427-68fc-4f3d-ac74-ca555231cc68"),
    guid!("1ce1e5bc-7ceb-42f2-81e5-8aadf180f57b"),
    guid!("800f683f-d08b-423a-a293-965c3c6fe2b4"),
];

/// Their names, a line each.
static NAMES: &str = "\
LoadedImage
LoadedImageDevicePath
DevicePath
DevicePathToText
SimpleTextInput
SimpleTextInputEx
SimpleTextOutput
LoadFile2
SimpleFileSystem
BlockIo
GraphicsOutput
UgaDraw
PciIo
Rng
Tcg2
CcMeasurement
MemoryAttribute
GlobalVariable
LoaderInterface
Shim
MemoryOverwrite
LinuxInitrd
LinuxRandomSeed
LinuxBootMemmap";

/// The GUID that `text` names, or spells.
#[must_use]
pub fn guid_of(text: &str) -> Option<Guid> {
    let mut all = GUIDS.iter().zip(0..);
    let named = all.find(|(_, index)| line(NAMES, *index) == text);
    named.map_or_else(|| spelled(text), |(guid, _)| Some(*guid))
}

/// Where in a GUID the bytes are that its text shows one after the other.
static ORDER: [u8; 16] = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];

/// The GUID that is written as 32 digits, with dashes.
fn spelled(text: &str) -> Option<Guid> {
    let mut bytes = [0u8; 16];
    let mut count = 0usize;
    for digit in text.bytes().filter(|byte| *byte != b'-') {
        let value = u8::try_from(char::from(digit).to_digit(16)?).ok()?;
        let index = usize::from(*ORDER.get(count / 2)?);
        let byte = bytes.get_mut(index)?;
        *byte = *byte << 4 | value;
        count = count.saturating_add(1);
    }
    (count == 32).then(|| Guid::from_bytes(bytes))
}

/// Appends a GUID's name, or its digits with dashes.
#[inline(never)]
#[cold]
pub fn write_guid(text: &mut String, guid: &Guid) {
    if let Some(index) = GUIDS.iter().position(|known| same(known, guid)) {
        return add(text, line(NAMES, index));
    }
    let bytes = number(guid).to_le_bytes();
    for (place, index) in ORDER.iter().enumerate() {
        if matches!(place, 4 | 6 | 8 | 10) {
            put(text, b'-');
        }
        let byte = bytes.get(usize::from(*index)).copied().unwrap_or_default();
        for digit in [byte >> 4, byte & 0xf] {
            put(
                text,
                digit.saturating_add(if digit < 10 { b'0' } else { b'a' - 10 }),
            );
        }
    }
}

/// Appends `part`.
#[inline(never)]
#[cold]
pub fn add(text: &mut String, part: &str) {
    text.push_str(part);
}

/// Appends a character of ASCII.
pub fn put(text: &mut String, character: u8) {
    push(text, char::from(character & 0x7f));
}

#[cfg(test)]
mod tests {
    #![expect(
        clippy::unwrap_used,
        clippy::arithmetic_side_effects,
        reason = "a test fails by panicking"
    )]

    use super::*;
    use core::mem::offset_of;
    use uefi_raw::protocol::console::{
        SimpleTextInputExProtocol, SimpleTextInputProtocol, SimpleTextOutputProtocol,
    };
    use uefi_raw::protocol::memory_protection::MemoryAttributeProtocol;
    use uefi_raw::table::boot::BootServices;
    use uefi_raw::table::runtime::RuntimeServices;

    #[test]
    fn slots_are_in_the_order_of_the_structures() {
        let boot = |name| 24 + 8 * (slot(name).unwrap() - BOOT);
        let last = size_of::<BootServices>() - 8;
        assert_eq!(offset_of!(BootServices, raise_tpl), boot("RaiseTPL"));
        assert_eq!(
            offset_of!(BootServices, handle_protocol),
            boot("HandleProtocol")
        );
        assert_eq!(
            offset_of!(BootServices, exit_boot_services),
            boot("ExitBootServices")
        );
        assert_eq!(
            offset_of!(BootServices, locate_protocol),
            boot("LocateProtocol")
        );
        assert_eq!(offset_of!(BootServices, create_event_ex), last);
        assert_eq!(last, boot("CreateEventEx"));
        let runtime = |name| 24 + 8 * (slot(name).unwrap() - RUNTIME);
        assert_eq!(runtime("GetTime"), 24);
        assert_eq!(
            offset_of!(RuntimeServices, set_variable),
            runtime("SetVariable")
        );
        let last = size_of::<RuntimeServices>() - 8;
        assert_eq!(last, runtime("QueryVariableInfo"));
        let output = 8 * (slot("SimpleTextOutput.EnableCursor").unwrap() - OUTPUT);
        assert_eq!(offset_of!(SimpleTextOutputProtocol, enable_cursor), output);
        let input = 8 * (slot("SimpleTextInput.ReadKeyStroke").unwrap() - INPUT);
        assert_eq!(offset_of!(SimpleTextInputProtocol, read_key_stroke), input);
        assert_eq!(slot("LoadFile2.LoadFile"), Some(LOAD_FILE2));
        let input_ex = |name| 8 * (slot(name).unwrap() - INPUT_EX);
        assert_eq!(
            offset_of!(SimpleTextInputExProtocol, set_state),
            input_ex("SimpleTextInputEx.SetState")
        );
        let last = input_ex("SimpleTextInputEx.UnregisterKeyNotify");
        assert_eq!(size_of::<SimpleTextInputExProtocol>() - 8, last);
        assert_eq!(service(INPUT_EX + 2), ("reserved", ""));
        assert_eq!(slot("Rng.GetInfo"), Some(RNG));
        let clear = slot("MemoryAttribute.ClearMemoryAttributes").unwrap();
        assert_eq!(
            offset_of!(MemoryAttributeProtocol, clear_memory_attributes),
            8 * (clear - MEMORY_ATTRIBUTE)
        );
        assert_eq!(clear, SLOTS - 1);
    }

    #[test]
    fn names_and_arguments_are_found() {
        assert_eq!(service(2), ("AllocatePages", "atxn"));
        assert_eq!(service(SLOTS), ("", ""));
        assert_eq!(guid_argument(slot("HandleProtocol").unwrap()), Some(1));
        assert_eq!(guid_argument(slot("Stall").unwrap()), None);
        assert_eq!(slot("allocatepages"), None);
    }

    #[test]
    fn the_profile_of_2016_is_that_of_its_thread() {
        let kept = [
            "GetMemoryMap",
            "ExitBootServices",
            "Exit",
            "GetVariable",
            "GetNextVariableName",
            "SetVariable",
            "QueryVariableInfo",
        ];
        let bits = kept.map(|name| bit(slot(name).unwrap()));
        assert_eq!(bits.into_iter().sum::<u128>(), PROFILE_2016);
    }

    #[test]
    fn guids_are_named_and_spelled() {
        let written = |text: &str| {
            let mut out = String::new();
            write_guid(&mut out, &guid_of(text).unwrap());
            out
        };
        assert_eq!(written("LoadFile2"), "LoadFile2");
        assert_eq!(written("4006C0C1-fcb3-403e-996d-4a6c8724e06d"), "LoadFile2");
        let other = "00112233-4455-6677-8899-aabbccddeeff";
        assert_eq!(written(other), other);
        assert_eq!(guid_of(other).unwrap().to_string(), other);
        assert_eq!(guid_of("LoadFile3"), None);
        assert_eq!(guid_of(&format!("{other}0")), None);
    }
}
