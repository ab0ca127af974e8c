//! Why a variable service refuses.

use super::storage::Failed;
use core::fmt::{self, Display, Formatter};
use uefi_raw::Status;
use uefi_raw::table::runtime::VariableAttributes;

/// Why a variable service refuses. Unless it says otherwise, the variables are
/// as they were before.
///
/// Each has at most one number, and all the same type of it: so an error travels in
/// two registers, and not by way of memory, through the runtime image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The empty string cannot name a variable.
    EmptyName,
    /// Bits that UEFI does not define.
    UndefinedAttributes(usize),
    /// Attributes that UEFI defines and this firmware does not implement.
    UnsupportedAttributes(usize),
    /// `RUNTIME_ACCESS` without `BOOTSERVICE_ACCESS`.
    RuntimeOnly,
    /// `HARDWARE_ERROR_RECORD` without what such a record has to have besides.
    HalfErrorRecord,
    /// `TIME_BASED_AUTHENTICATED_WRITE_ACCESS`, and data that do not begin with a
    /// descriptor.
    NoDescriptor,
    /// A question about variables that no one could read.
    NoAccess,
    /// Other attributes than those the variable was created with.
    AttributesDiffer,
    /// After ExitBootServices, new variables need `NON_VOLATILE` and
    /// `RUNTIME_ACCESS`.
    NotForRuntime,
    /// After ExitBootServices, no variable can be written.
    Frozen,
    /// Nobody but the firmware, or nobody after ExitBootServices, writes this
    /// variable.
    ReadOnly,
    /// No such variable, or no further one.
    NotFound,
    /// GetNextVariableName was called with a variable that does not exist.
    UnknownPredecessor,
    /// The storage has no room for it: so many bytes are missing.
    Full(usize),
    /// The variable is only changed by a write that is signed.
    Signed,
    /// The variable holds keys and would not need a signature to be changed.
    Unsigned,
    /// The storage did not take it; the variable has its old or its new value.
    Storage,
    /// The host, which keeps the variables, refuses with this status.
    Host(Status),
}

impl Error {
    /// `attributes` are not implemented.
    #[must_use]
    pub const fn unsupported(attributes: VariableAttributes) -> Self {
        Self::UnsupportedAttributes(attributes.bits() as usize)
    }

    /// The `needed` bytes that a change would add are more than the `free` ones.
    #[must_use]
    pub const fn full(needed: usize, free: usize) -> Self {
        Self::Full(needed.saturating_sub(free))
    }
}

impl From<Failed> for Error {
    fn from(_: Failed) -> Self {
        Self::Storage
    }
}

impl Display for Error {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::EmptyName => f.write_str("expected a variable name, found the empty string; give it a name"),
            Self::UndefinedAttributes(bits) => {
                write!(f, "expected attributes defined by UEFI, found also {bits:#x}; clear these bits")
            }
            Self::UnsupportedAttributes(bits) => {
                write!(f, "expected plain attributes, found {bits:#x}; signed writes and error records are not implemented")
            }
            Self::RuntimeOnly => {
                f.write_str("expected BOOTSERVICE_ACCESS along with RUNTIME_ACCESS, found it missing; set both")
            }
            Self::HalfErrorRecord => f.write_str(
                "expected NON_VOLATILE, BOOTSERVICE_ACCESS and RUNTIME_ACCESS of an error record, found one missing",
            ),
            Self::NoDescriptor => f.write_str(
                "expected a descriptor before signed data, found none; begin with EFI_VARIABLE_AUTHENTICATION_2",
            ),
            Self::NoAccess => f.write_str("expected BOOTSERVICE_ACCESS, found no access attribute; set it"),
            Self::AttributesDiffer => f.write_str(
                "expected the attributes of the existing variable, found others; delete the variable first",
            ),
            Self::NotForRuntime => f.write_str(
                "expected NON_VOLATILE and RUNTIME_ACCESS after ExitBootServices, found one missing; set both",
            ),
            Self::ReadOnly => f.write_str(
                "expected a variable that can be written now, found a read-only one; leave it as it is",
            ),
            Self::Frozen => f.write_str(
                "expected SetVariable before ExitBootServices, found it after: the disk of the variables has been left",
            ),
            Self::NotFound => f.write_str("expected a variable, found none; create it or stop enumerating"),
            Self::UnknownPredecessor => f.write_str(
                "expected the last variable listed, found one that does not exist; restart with the empty name",
            ),
            Self::Full(missing) => {
                write!(f, "expected room for the variable, found {missing} bytes too few; delete variables")
            }
            Self::Signed => f.write_str(
                "expected a variable that anybody may change, found one that needs a signature; \
                 signed writes are not implemented",
            ),
            Self::Unsigned => f.write_str("expected keys to need a signature, found plain attributes; sign them"),
            Self::Storage => f.write_str(
                "expected the storage to take what was written, found it did not; check the host's file for variables",
            ),
            Self::Host(status) => write!(f, "expected the host to agree, found {status}; see its log"),
        }
    }
}
