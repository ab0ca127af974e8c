//! What the toolstack has written about this domain into xenstore, and the
//! options it has there for the firmware.
//!
//! Options are nodes in `vm-data/ovmf-lite`, which only the toolstack may write,
//! or in `data/ovmf-lite`, which counts where the first has none: `xl` creates
//! `data` for every domain. See `docs/XEN.md`.

use super::Link;
use super::xenstore::{Error, Store};
use alloc::string::String;
use log::LevelFilter;

/// This domain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Domain {
    /// Its name.
    pub name: Option<String>,
    /// Its UUID, as the toolstack writes it.
    pub uuid: Option<String>,
    /// What the firmware shall write to the console.
    pub log: Option<Level>,
    /// Words for the end of the kernel's command line.
    pub append: Option<String>,
}

/// A value of the option `log`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Level {
    /// Lines of this level and above it.
    Filter(LevelFilter),
    /// Something that is no level.
    Unknown(String),
}

/// Reads all of it, as it was at one moment.
///
/// # Errors
/// When the store does not answer as it should.
pub fn read(store: &Store<impl Link>) -> Result<Domain, Error> {
    let values = store.transaction(|transaction| {
        transaction.read_all([
            "name",
            "vm",
            "vm-data/ovmf-lite/log",
            "data/ovmf-lite/log",
            "vm-data/ovmf-lite/append",
            "data/ovmf-lite/append",
        ])
    })?;
    let [name, vm, log, own_log, append, own_append] = values.map(|value| value.map(text));
    Ok(Domain {
        name,
        // `/vm/<uuid>`, xenstore-paths.
        uuid: vm.and_then(|path| Some(path.strip_prefix("/vm/")?.into())),
        log: log.or(own_log).map(level),
        append: append.or(own_append),
    })
}

fn text(bytes: alloc::vec::Vec<u8>) -> String {
    crate::text::of_bytes(&bytes)
}

#[cold]
fn level(value: String) -> Level {
    value.parse().map_or(Level::Unknown(value), Level::Filter)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::super::xenstore::tests::{Behaviour, with};
    use super::*;

    fn domain(values: &[(&'static str, &'static str)]) -> Domain {
        with(&Behaviour::holding(values), |store| read(store).unwrap())
    }

    #[test]
    fn a_domain_without_options_has_a_name() {
        let found = domain(&[("name", "guest"), ("vm", "/vm/12-34")]);
        let expected = Domain {
            name: Some("guest".into()),
            uuid: Some("12-34".into()),
            ..Domain::default()
        };
        assert_eq!(found, expected);
        assert_eq!(domain(&[("vm", "nonsense")]), Domain::default());
    }

    #[test]
    fn what_only_the_toolstack_writes_counts_more() {
        let both = [
            ("data/ovmf-lite/log", "off"),
            ("vm-data/ovmf-lite/log", "Error"),
            ("data/ovmf-lite/append", "quiet splash"),
        ];
        let found = domain(&both);
        assert_eq!(found.log, Some(Level::Filter(LevelFilter::Error)));
        assert_eq!(found.append.as_deref(), Some("quiet splash"));
    }

    #[test]
    fn what_is_no_level_is_kept_to_be_named() {
        let found = domain(&[("data/ovmf-lite/log", "loud")]);
        assert_eq!(found.log, Some(Level::Unknown("loud".into())));
    }
}
