//! The words on the guest's command line that are the firmware's: those that
//! begin with `ovmf-lite.`, outside of quotes.
//!
//! Promises that the kernel gets the rest as it was, and none of ours: neither
//! those that are not known nor those that are malformed. Each of these is
//! complained about in one line that says what was expected and what was found.

use crate::catalog::{self, PROFILE_2016, cut};
use alloc::string::ToString;
use alloc::vec::Vec;
use uefi_raw::{Guid, Status};

const PREFIX: &[u8] = b"ovmf-lite.";

/// What was asked of the firmware.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Every call is a line on the log.
    pub trace: bool,
    /// What returns `UNSUPPORTED` without being called: a bit for each slot of
    /// [`catalog`].
    pub denied: u128,
    /// What else fails without being called, until ExitBootServices.
    pub denials: Vec<Denial>,
}

/// A service that fails in its own way.
#[derive(Debug, PartialEq, Eq)]
pub struct Denial {
    /// Which one, as [`catalog`] counts them.
    pub slot: usize,
    /// Only when it is asked for this protocol, table or vendor.
    pub guid: Option<Guid>,
    /// What it returns.
    pub status: Status,
}

/// What was expected, and what was found.
type Complaint<'a> = (&'static str, &'a str);

/// Takes the options out of `line`, and complains about some on the log.
#[must_use]
pub fn take(line: &mut Vec<u8>) -> Options {
    let mut options = Options::default();
    let mut rest = Vec::with_capacity(line.len());
    let mut quoted = false;
    for word in line.split_inclusive(|byte| *byte == b' ') {
        match word.strip_prefix(PREFIX) {
            Some(option) if !quoted => {
                let end = option.iter().position(|byte| matches!(byte, b' ' | 0));
                let option = option
                    .get(..end.unwrap_or(option.len()))
                    .unwrap_or_default();
                let option = str::from_utf8(option).unwrap_or("?");
                if let Err((expected, found)) = options.add(option) {
                    log::warn!("option ovmf-lite.{option}: expected {expected}, found `{found}`");
                }
            }
            _ => rest.extend_from_slice(word),
        }
        for byte in word {
            quoted ^= *byte == b'"';
        }
    }
    *line = rest;
    options
}

impl Options {
    /// Adds the option behind the prefix.
    #[cold]
    fn add<'a>(&mut self, option: &'a str) -> Result<(), Complaint<'a>> {
        match cut(option, b'=') {
            ("trace", "") => self.trace = true,
            ("trace", value) => return Err(("no value", value)),
            ("deny", value) => return self.deny(value),
            ("profile", "2016") => self.denied |= catalog::SERVICES_OF_TABLES & !PROFILE_2016,
            ("profile", value) => return Err(("2016", value)),
            (name, _) => return Err(("trace, deny=SERVICE or profile=2016", name)),
        }
        Ok(())
    }

    /// `SERVICE[:GUID][=STATUS]`.
    fn deny<'a>(&mut self, value: &'a str) -> Result<(), Complaint<'a>> {
        let (what, error) = cut(value, b'=');
        let (name, protocol) = cut(what, b':');
        let slot = catalog::slot(name).ok_or(("a service such as GetTime", name))?;
        let guid = catalog::guid_of(protocol);
        let status = status_of(error);
        if guid.is_some() && catalog::guid_argument(slot).is_none() {
            return Err(("a service without GUID", protocol));
        } else if guid.is_none() && !protocol.is_empty() {
            return Err(("a GUID, or a name such as LoadFile2", protocol));
        } else if status.is_none() && !error.is_empty() {
            return Err(("an error such as NOT_FOUND", error));
        }
        let status = status.unwrap_or(Status::UNSUPPORTED);
        if guid.is_none() && status == Status::UNSUPPORTED {
            self.denied |= catalog::bit(slot);
        } else {
            self.denials.push(Denial { slot, guid, status });
        }
        Ok(())
    }
}

/// The error of this name (UEFI 2.11, appendix D).
fn status_of(name: &str) -> Option<Status> {
    let mut errors = (1..64).map(|code| Status(Status::ERROR_BIT | code));
    errors.find(|status| status.to_string() == name)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn taken(line: &str) -> (String, Options) {
        let mut line = line.as_bytes().to_vec();
        let options = take(&mut line);
        (String::from_utf8(line).unwrap(), options)
    }

    #[test]
    fn a_line_without_options_is_left_alone() {
        let line = "  root=/dev/vda1  \"a b\" x=ovmf-lite.trace \0";
        assert_eq!(taken(line), (line.into(), Options::default()));
    }

    #[test]
    fn options_are_taken_out_but_not_of_quotes() {
        let (rest, options) =
            taken("a ovmf-lite.trace dyndbg=\"b ovmf-lite.trace c\" ovmf-lite.trace\0");
        assert_eq!(rest, "a dyndbg=\"b ovmf-lite.trace c\" ");
        assert!(options.trace);
    }

    #[test]
    fn a_denial_has_a_service_and_may_have_a_guid_and_a_status() {
        let (rest, options) = taken(
            "ovmf-lite.deny=FreePool ovmf-lite.deny=HandleProtocol:LoadFile2=NOT_FOUND \
             ovmf-lite.deny=LoadFile2.LoadFile=DEVICE_ERROR",
        );
        assert_eq!(rest, "");
        let slot = |name| catalog::slot(name).unwrap();
        let denials = options.denials.iter();
        let denials: Vec<_> = denials.map(|d| (d.slot, d.guid, d.status)).collect();
        let guid = catalog::guid_of("LoadFile2");
        let expected = [
            (slot("HandleProtocol"), guid, Status::NOT_FOUND),
            (catalog::LOAD_FILE2, None, Status::DEVICE_ERROR),
        ];
        assert_eq!(denials, expected);
        assert_eq!(options.denied, catalog::bit(slot("FreePool")));
    }

    #[test]
    fn the_profile_leaves_seven_services() {
        let (_, options) = taken("ovmf-lite.profile=2016");
        assert_eq!(options.denied.count_ones(), 58 - 7);
        assert_eq!(options.denied & PROFILE_2016, 0);
    }

    #[test]
    fn what_is_not_known_is_named_with_what_is() {
        for (option, expected, found) in [
            ("tarce", "trace, deny=SERVICE or profile=2016", "tarce"),
            ("trace=1", "no value", "1"),
            ("profile=2017", "2016", "2017"),
            ("deny", "a service such as GetTime", ""),
            ("deny=GetTim", "a service such as GetTime", "GetTim"),
            (
                "deny=Stall:LoadFile2",
                "a service without GUID",
                "LoadFile2",
            ),
            (
                "deny=HandleProtocol:Load",
                "a GUID, or a name such as LoadFile2",
                "Load",
            ),
            (
                "deny=Stall=SUCCESS",
                "an error such as NOT_FOUND",
                "SUCCESS",
            ),
        ] {
            let mut options = Options::default();
            assert_eq!(options.add(option), Err((expected, found)));
            assert_eq!(options, Options::default());
            let (rest, options) = taken(&format!("a ovmf-lite.{option} b"));
            assert_eq!((&*rest, options), ("a b", Options::default()));
        }
    }
}
