//! Checks, their outcomes and the count.

use crate::calls::Guest;
use crate::output;
use crate::text::Text;
use core::fmt::{self, Debug};
use r_efi::efi::Status;

/// Why a check failed.
pub struct Failure(Text);

impl Failure {
    /// A failure with its reason.
    pub fn new(reason: fmt::Arguments<'_>) -> Self {
        Self(Text::format(reason))
    }
}

/// What a check returns.
pub type Outcome = Result<(), Failure>;

/// One check: its name, and what it does.
pub type Check = (&'static str, fn(&Guest) -> Outcome);

/// Checks that belong together.
pub struct Area {
    /// Precedes the names of the checks.
    pub name: &'static str,
    /// Run in this order, each whatever the others say.
    pub checks: &'static [Check],
}

/// The count of outcomes.
pub struct Report {
    /// Whether this is the firmware whose tests these are, and not another one
    /// to compare it with.
    pub ours: bool,
    /// Whether the variables of UEFI 2.11 §3.3 are this firmware's, too, and not a
    /// host's that keeps variables.
    pub own_variables: bool,
    passed: usize,
    failed: usize,
}

impl Report {
    /// No outcomes so far.
    pub const fn new(ours: bool, hosted: bool) -> Self {
        Self {
            ours,
            own_variables: ours && !hosted,
            passed: 0,
            failed: 0,
        }
    }

    /// Runs every check of an area.
    pub fn run(&mut self, guest: &Guest, area: &Area) {
        for (name, check) in area.checks {
            self.note(area.name, name, check(guest));
        }
    }

    /// Prints and counts one outcome.
    pub fn note(&mut self, area: &str, name: &str, outcome: Outcome) {
        match outcome {
            Ok(()) => {
                self.passed += 1;
                output::line(format_args!("ok {area}: {name}"));
            }
            Err(Failure(reason)) => {
                self.failed += 1;
                output::line(format_args!("FAIL {area}: {name}: {}", reason.as_str()));
            }
        }
    }

    /// Whether no check has failed so far.
    pub const fn all_passed(&self) -> bool {
        self.failed == 0
    }

    /// Prints the last line.
    pub fn summarize(&self) {
        let (passed, failed) = (self.passed, self.failed);
        output::line(format_args!("guest: {passed} passed, {failed} failed"));
    }
}

/// Succeeds when `found` is `expected`.
pub fn equal<T: PartialEq + Debug>(what: &str, found: T, expected: T) -> Outcome {
    if found == expected {
        return Ok(());
    }
    Err(Failure::new(format_args!(
        "{what}: expected {expected:x?}, found {found:x?} (in hexadecimal)"
    )))
}

/// Succeeds when a service returned what the specification says.
pub fn status(service: &str, found: Status, expected: Status) -> Outcome {
    if found == expected {
        return Ok(());
    }
    Err(Failure::new(format_args!(
        "{service}: expected {expected}, found {found}"
    )))
}

/// Succeeds when a service succeeded.
pub fn success(service: &str, found: Status) -> Outcome {
    status(service, found, Status::SUCCESS)
}

/// Succeeds when a service returned this, and the check's name says which.
pub fn gives(expected: Status, found: Status) -> Outcome {
    status("status", found, expected)
}

/// Succeeds when a service refused its parameters.
pub fn invalid(found: Status) -> Outcome {
    gives(Status::INVALID_PARAMETER, found)
}

/// Succeeds when a service succeeded.
pub fn works(found: Status) -> Outcome {
    gives(Status::SUCCESS, found)
}

/// Succeeds when a service returned one of two statuses.
pub fn one_of([one, other]: [Status; 2], found: Status) -> Outcome {
    if found == one || found == other {
        return Ok(());
    }
    Err(Failure::new(format_args!(
        "expected {one} or {other}, found {found}"
    )))
}

/// Succeeds when `truth` holds; `expected` says what was expected in words.
pub fn holds(expected: &str, truth: bool) -> Outcome {
    if truth {
        return Ok(());
    }
    Err(Failure::new(format_args!(
        "expected {expected}, found otherwise"
    )))
}
