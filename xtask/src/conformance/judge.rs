//! How far a boot came, by what is on its console.

use std::collections::BTreeSet;

/// What runs in the guest: tries variables, also after they have been listed anew, and
/// says what worked.
pub const SCRIPT: &str = r"
exec > /dev/console 2> /dev/null
echo 'conformance: init'
directory=/sys/firmware/efi/efivars
variable=$directory/OvmfLiteConformance-12345678-9abc-def0-0102-030405060708
if grep -q efivarfs /proc/mounts; then
    printf '\7\0\0\0x' > $variable && echo 'conformance: efivars: write'
    [ x$(tail -c 1 $variable) = xx ] && echo 'conformance: efivars: read'
    umount $directory
    mount -t efivarfs efivarfs $directory
    [ -e $variable ] && echo 'conformance: efivars: list'
fi
echo 'conformance: done'
";

/// What [`SCRIPT`] says last.
pub const DONE: &str = "conformance: done";
/// What stands behind everything on the console of a guest that neither got there nor
/// ended in its time.
pub const GAVE_UP: &str = "conformance: gave up waiting";
/// What a kernel says first.
pub const STARTED: &str = "Linux version ";
/// What can be done with variables: writing, reading and listing them.
pub const EFIVARS: usize = 3;

/// How far a boot came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The kernel said its first line.
    pub started: bool,
    /// Its userspace did.
    pub init: bool,
    /// Whether its time was over before it came to an end, good or bad.
    pub unclear: bool,
    /// What can be done with variables.
    pub efivars: BTreeSet<String>,
    /// What the EFI stub, or else the firmware complained about first, or else the
    /// last line.
    pub last: String,
}

impl Progress {
    /// Reads a console.
    pub fn read(console: &str) -> Progress {
        let after = |words: &'static str| {
            let lines = console.lines();
            lines.filter_map(move |line| Some(line.split_once(words)?.1.trim().to_owned()))
        };
        let mut complaints = after("EFI stub: ERROR: ").chain(after("ovmf-lite: error: "));
        let mut lines = console.lines().rev().map(str::trim);
        let last = lines.find(|line| !line.is_empty()).unwrap_or("nothing");
        Progress {
            // On Xen's console the first lines are lost.
            started: console.contains(STARTED) || console.contains("\n[  "),
            unclear: console.contains(GAVE_UP),
            init: console.contains("conformance: init"),
            efivars: after("conformance: efivars: ").collect(),
            last: complaints.next().unwrap_or_else(|| last.to_owned()),
        }
    }

    /// What is missing in comparison with the whole boot: nothing when it is the same.
    pub fn loss(&self, whole: &Progress) -> Option<String> {
        let lost: Vec<&str> = whole
            .efivars
            .difference(&self.efivars)
            .map(|s| &**s)
            .collect();
        match lost.len() {
            0 => None,
            EFIVARS => Some("no efivars".into()),
            _ => Some(format!("efivars without {}", lost.join(", "))),
        }
    }

    /// How far it came, in words.
    pub fn words(&self) -> &'static str {
        match (self.started, self.init) {
            (_, true) => "userspace",
            (true, false) => "the kernel's first lines",
            (false, false) => "the EFI stub",
        }
    }
}

/// The version of Linux that the console names.
pub fn version(console: &str) -> Option<String> {
    let (_, version) = console.split_once(STARTED)?;
    Some(version.split(' ').next()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_console_tells_how_far_a_boot_came() {
        let console = "EFI stub: ERROR: no\r\n[    0.000000] Linux version 6.1.0-1 (x@y)\r\n\
                       conformance: init\r\nconformance: efivars: read\r\nconformance: done\r\n";
        let progress = Progress::read(console);
        assert!(progress.started && progress.init);
        assert_eq!((&*progress.last, progress.words()), ("no", "userspace"));
        assert_eq!(version(console).as_deref(), Some("6.1.0-1"));
        let whole = Progress {
            efivars: ["list", "read", "write"].map(String::from).into(),
            ..progress.clone()
        };
        let loss = progress.loss(&whole);
        assert_eq!(loss.as_deref(), Some("efivars without list, write"));
        assert_eq!(
            Progress::default().loss(&whole).as_deref(),
            Some("no efivars")
        );
        assert_eq!(whole.loss(&whole), None);
    }

    #[test]
    fn a_boot_that_took_too_long_is_unclear() {
        let console = format!("Linux version 6\n{GAVE_UP}\n");
        assert!(Progress::read(&console).unclear);
        assert!(!Progress::read("Linux version 6\n").unclear);
    }

    #[test]
    fn a_dead_boot_has_a_last_line() {
        let progress = Progress::read("a\n\novmf-lite: error: kernel: gone\nb\n");
        assert_eq!(
            (&*progress.last, progress.words()),
            ("kernel: gone", "the EFI stub")
        );
        assert_eq!(Progress::read("\n").last, "nothing");
    }
}
