//! A guest as `xl` takes it: xl.cfg(5), written from the fields that matter.

/// A guest's configuration.
#[derive(Clone, Debug)]
pub struct Domain {
    /// Its name, and that of the configuration.
    pub name: String,
    /// What it is and what it starts.
    pub boot: Boot,
    /// The command line of its kernel.
    pub command_line: String,
    /// Memory in MiB.
    pub memory: u64,
    /// Number of processors.
    pub processors: u32,
    /// More lines, as they are; one takes the place of another with its key.
    pub extra: Vec<String>,
}

/// The type of a guest, and the files that it starts with: names in the
/// scenario's directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Boot {
    /// PVH: `kernel=` and `ramdisk=` as they are. Without the firmware these are
    /// kernel and initrd; with it, the firmware and the one module it gets.
    Pvh {
        /// An ELF file, or a kernel that libxenguest unpacks.
        kernel: String,
        /// The one module, if any.
        ramdisk: Option<String>,
    },
    /// PVH: the firmware in the place of Xen's shim, with the user's own kernel,
    /// initrd and command line as its two modules.
    Shim {
        /// An ELF file.
        firmware: String,
        /// The first module, with the command line.
        kernel: String,
        /// The second.
        ramdisk: Option<String>,
    },
    /// HVM: hvmloader starts a firmware blob.
    Hvm {
        /// The blob; without one, Debian's OVMF.
        firmware: Option<String>,
        /// For the device model's `-kernel`.
        kernel: Option<String>,
        /// For its `-initrd`.
        ramdisk: Option<String>,
    },
}

impl Default for Domain {
    fn default() -> Domain {
        Domain {
            name: "guest".into(),
            boot: Boot::Pvh {
                kernel: "kernel".into(),
                ramdisk: None,
            },
            command_line: "console=hvc0 panic=-1".into(),
            memory: 512,
            processors: 1,
            extra: Vec::new(),
        }
    }
}

impl Domain {
    /// The text of the configuration. A guest that crashes stays, to be looked at.
    pub fn configuration(&self) -> String {
        let mut lines = vec![line("name", &self.name)];
        lines.extend(self.boot.lines());
        // xl refuses one without a kernel.
        if !self.command_line.is_empty() {
            lines.push(line("cmdline", &self.command_line));
        }
        lines.push(format!("memory = {}", self.memory));
        lines.push(format!("vcpus = {}", self.processors));
        lines.push("on_crash = \"preserve\"".into());
        lines.retain(|line| !self.extra.iter().any(|extra| key(extra) == key(line)));
        lines.extend(self.extra.iter().cloned());
        lines.push(String::new());
        lines.join("\n")
    }
}

impl Boot {
    fn lines(&self) -> Vec<String> {
        let file = |key: &str, name: &Option<String>| {
            let name = name.as_ref();
            name.map(|name| line(key, &format!("/bed/in/{name}")))
        };
        let (mut lines, kernel, ramdisk) = match self {
            Boot::Pvh { kernel, ramdisk } => (pvh(), Some(kernel.clone()), ramdisk),
            Boot::Shim {
                firmware,
                kernel,
                ramdisk,
            } => {
                let mut lines = pvh();
                lines.push("pvshim = 1".into());
                lines.extend(file("pvshim_path", &Some(firmware.clone())));
                (lines, Some(kernel.clone()), ramdisk)
            }
            Boot::Hvm {
                firmware,
                kernel,
                ramdisk,
            } => {
                let mut lines = vec![line("type", "hvm"), line("bios", "ovmf")];
                lines.extend(file("bios_path_override", firmware));
                lines.extend([line("vga", "none"), "vnc = 0".into()]);
                if firmware.is_none() {
                    lines.push(line("timer_mode", OVMF_TIMER_MODE));
                }
                (lines, kernel.clone(), ramdisk)
            }
        };
        lines.extend(file("kernel", &kernel));
        lines.extend(file("ramdisk", ramdisk));
        lines
    }
}

/// OVMF's interrupt handlers write CR8, and QEMU 7.2 aborts when one does while
/// the next interrupt waits. Without missed ticks that is rare enough for most
/// runs to come to their end, not for all.
const OVMF_TIMER_MODE: &str = "no_missed_ticks_pending";

fn pvh() -> Vec<String> {
    vec![line("type", "pvh")]
}

fn key(line: &str) -> Option<&str> {
    line.split(" = ").next()
}

/// `key = "value"`; xl knows no escapes, but either kind of quote.
fn line(key: &str, value: &str) -> String {
    let quote = if value.contains('"') { '\'' } else { '"' };
    format!("{key} = {quote}{value}{quote}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_names_files_in_dom0() {
        let domain = Domain {
            boot: Boot::Pvh {
                kernel: "ovmf-lite.elf".into(),
                ramdisk: Some("module".into()),
            },
            extra: vec!["maxmem = 1024".into(), "vcpus = 2".into()],
            ..Domain::default()
        };
        let expected = "name = \"guest\"\ntype = \"pvh\"\nkernel = \"/bed/in/ovmf-lite.elf\"\n\
                        ramdisk = \"/bed/in/module\"\ncmdline = \"console=hvc0 panic=-1\"\n\
                        memory = 512\non_crash = \"preserve\"\nmaxmem = 1024\nvcpus = 2\n";
        assert_eq!(domain.configuration(), expected);
    }

    #[test]
    fn quotes_in_a_value_are_kept() {
        assert_eq!(line("cmdline", "a=\"b c\""), "cmdline = 'a=\"b c\"'");
    }
}
