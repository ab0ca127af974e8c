//! From each module's own error to `Status`.

use crate::images::{LoadError, WrongState};
use crate::{configuration, events, handles, memory};
use uefi_raw::Status;

impl From<memory::Error> for Wrapped {
    #[inline(never)]
    fn from(error: memory::Error) -> Self {
        use memory::Error;
        Self(match error {
            Error::Type(_) | Error::Alignment(_) | Error::Range(..) | Error::NotInPool(_) => {
                Status::INVALID_PARAMETER
            }
            Error::NotFree(..) | Error::NotAllocated(..) => Status::NOT_FOUND,
            Error::NoSpace(_) | Error::TooLarge(_) | Error::Bookkeeping => Status::OUT_OF_RESOURCES,
        })
    }
}

impl From<handles::Error> for Wrapped {
    #[inline(never)]
    fn from(error: handles::Error) -> Self {
        Self(match error {
            handles::Error::UnknownHandle
            | handles::Error::AlreadyInstalled
            | handles::Error::OwnChild => Status::INVALID_PARAMETER,
            handles::Error::NotFound => Status::NOT_FOUND,
            handles::Error::InUse => Status::ACCESS_DENIED,
            handles::Error::AlreadyStarted => Status::ALREADY_STARTED,
            handles::Error::Full => Status::OUT_OF_RESOURCES,
        })
    }
}

impl From<events::Error> for Wrapped {
    fn from(error: events::Error) -> Self {
        Self(match error {
            events::Error::Invalid => Status::INVALID_PARAMETER,
            events::Error::Full => Status::OUT_OF_RESOURCES,
        })
    }
}

impl From<configuration::Error> for Wrapped {
    fn from(error: configuration::Error) -> Self {
        Self(match error {
            configuration::Error::NotFound => Status::NOT_FOUND,
            configuration::Error::Full => Status::OUT_OF_RESOURCES,
        })
    }
}

impl From<WrongState> for Wrapped {
    fn from(_: WrongState) -> Self {
        Self(Status::INVALID_PARAMETER)
    }
}

impl From<&LoadError> for Wrapped {
    fn from(error: &LoadError) -> Self {
        Self(match error {
            LoadError::Format(_) | LoadError::Place(_) => Status::LOAD_ERROR,
            LoadError::Subsystem(_) => Status::UNSUPPORTED,
            LoadError::NoMemory { .. } | LoadError::TooMany => Status::OUT_OF_RESOURCES,
        })
    }
}

/// A `Status` made from a module's error: `Status` itself is foreign.
pub struct Wrapped(Status);

/// The `Status` for a module's error; for `map_err`.
pub fn from<E>(error: E) -> Status
where
    Wrapped: From<E>,
{
    Wrapped::from(error).0
}

/// What a service returns for a result without a value.
pub fn of(result: Result<(), Status>) -> Status {
    result.err().unwrap_or(Status::SUCCESS)
}
