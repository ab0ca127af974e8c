//! A guest's memory: what is left of it, populated on demand, ballooned.

use anyhow::Result;
use xtask::xen::domain::Domain;

use super::stage::Stage;
use super::{Case, Form};
use crate::bench::Release;

const FUNCTIONS: &str = include_str!("memory.sh");

/// A guest that tells its memory whenever it is asked.
const TELL: &str = "tell() { echo \"memory: $(awk '/MemTotal/ { print $2 }' /proc/meminfo) KiB\"; }\n\
                    tell\n\
                    echo 'guest: ready'\n\
                    while read -r line; do tell; done\n";

/// Linux reports as much as without a firmware, less this.
const LESS_KIB: u64 = 1024;

/// Runs it.
///
/// # Errors
/// When a check fails.
pub fn run(case: &Case) -> Result<()> {
    let mut stage = Stage::new(case, 1024)?;
    stage.functions(FUNCTIONS);
    if case.form == Form::Firmware {
        let guest = |name: &str| Domain {
            name: name.into(),
            ..Domain::default()
        };
        stage.guest_as(Form::Direct, Release::Bookworm, TELL, guest("direct"))?;
        stage.guest(Release::Bookworm, TELL, guest("firmware"))?;
        stage.check(
            "as-much-as-direct",
            &format!("as_much_as_direct {LESS_KIB}"),
        );
    }
    let on_demand = Domain {
        name: "on-demand".into(),
        memory: 256,
        extra: vec!["maxmem = 768".into()],
        ..Domain::default()
    };
    stage.guest(Release::Bookworm, TELL, on_demand)?;
    stage.check("populated-on-demand", "populated_on_demand 256");
    stage.check("ballooned-down", "ballooned 200");
    stage.check("ballooned-up", "ballooned 500");
    stage.run()?;
    Ok(())
}
