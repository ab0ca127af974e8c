//! Subjects made of a console's text.

use super::*;

const CONSOLE: &str = "ovmf-lite: trace, 1 time stamps in a millisecond\n\
    ovmf-lite: trace 1 0 HandleProtocol(0x1, LoadedImage, *0x1) = SUCCESS @0 +1\n\
    ovmf-lite: trace 2 0 LocateProtocol(Tcg2, 0x0, 0x1) = NOT_FOUND @1 +1\n\
    ovmf-lite: trace 3 0 LocateProtocol(Rng, 0x0, 0x1) = NOT_FOUND @2 +1\n\
    ovmf-lite: trace 4 0 HandleProtocol(0x2, LoadFile2, *0x1) = SUCCESS @3 +1\n\
    ovmf-lite: trace 5 0 LocateDevicePath(LoadFile2, *0x1, *0x1) = SUCCESS @4 +1\n\
    Linux version 6.1.0 (x)\nconformance: init\nconformance: efivars: list\n\
    conformance: efivars: read\nconformance: efivars: write\nconformance: done\n";

#[test]
fn experiments_are_what_was_called_and_given() {
    let subject = Subject::new("6.1".into(), CONSOLE).unwrap();
    let experiments = subject.experiments();
    let has = |what: &str| experiments.iter().any(|known| known == what);
    assert!(has("HandleProtocol") && has("LocateProtocol") && has("SetVirtualAddressMap"));
    assert!(has("HandleProtocol:LoadFile2") && has(PROFILE));
    // Not given; asked for one only; never called.
    assert!(!has("LocateProtocol:Rng") && !has("LocateDevicePath:LoadFile2") && !has("Stall"));
    assert_eq!(subject.count("HandleProtocol"), 2);
    assert_eq!(subject.count("HandleProtocol:LoadFile2"), 1);
    assert_eq!(subject.version, "6.1.0");
}

#[test]
fn a_kernel_that_does_not_come_up_is_no_subject() {
    let broken = CONSOLE.replace("conformance: init", "");
    assert!(Subject::new("6.1".into(), &broken).is_err());
}

#[test]
fn jobs_are_done_once_and_the_first_error_counts() {
    let mut done = parallel((0..50).collect(), 3, |job: i32| Ok(vec![job])).unwrap();
    done.sort_unstable();
    assert_eq!(done, (0..50).collect::<Vec<_>>());
    let failed = parallel(vec![1, 2], 1, |job: i32| -> Result<Vec<i32>> {
        anyhow::bail!("job {job}")
    });
    assert_eq!(failed.unwrap_err().to_string(), "job 1");
}
