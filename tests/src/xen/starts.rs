//! Guests one after another, and at the same time.

use anyhow::Result;
use xtask::xen::domain::Domain;

use super::Case;
use super::stage::Stage;
use crate::bench::Release;

const FUNCTIONS: &str = "
ten_in_a_row() {
    for round in 1 2 3 4 5 6 7 8 9 10; do
        echo \"start $round of 10\"
        forget short
        succeed short $patience
    done
}

answers() {
    forget long
    type_into long hello
    wait_for long 20 'heard: hello'
}

a_second_while_the_first_runs() {
    start long
    wait_for long $patience 'guest: ready'
    forget short
    succeed short $patience
    answers
}

two_at_once() {
    stop long
    forget short
    start long
    start short
    wait_for long 220 'guest: ready'
    finish short $patience
    answers
}
";

/// A guest that stays.
const LONG: &str = "echo 'guest: ready'\nwhile read -r line; do echo \"heard: $line\"; done\n";

/// Runs it.
///
/// # Errors
/// When a check fails.
pub fn run(case: &Case) -> Result<()> {
    let mut stage = Stage::new(case, 512)?;
    stage.functions(FUNCTIONS);
    for (name, script) in [("short", "exit 0\n"), ("long", LONG)] {
        let domain = Domain {
            name: name.into(),
            memory: 192,
            ..Domain::default()
        };
        stage.guest(Release::Bookworm, script, domain)?;
    }
    stage.check("ten-in-a-row", "ten_in_a_row");
    stage.check("second", "a_second_while_the_first_runs");
    stage.check("two-at-once", "two_at_once");
    // Ten guests in one check.
    stage.more_time(10);
    stage.run()?;
    Ok(())
}
