//! `docs/COVERAGE.md` is what the code and the tests say.

use xtask::coverage;

#[test]
fn the_page_is_up_to_date() {
    let expected = coverage::generate().expect("the sources");
    let found = coverage::present().expect("the page");
    assert!(
        found == expected,
        "docs/COVERAGE.md is not what the code says: run `cargo xtask coverage`"
    );
}

#[test]
fn every_service_is_in_it() {
    let page = coverage::present().expect("the page");
    let services = page.lines().filter(|line| {
        let state = line.split('|').nth(2).map(str::trim);
        state == Some("real") || state == Some("stub")
    });
    assert_eq!(services.count(), 43 + 14, "one row per slot");
}
