//! Linux comes up complete, on every kind of machine: the matrix.
//!
//! Checked from inside the guest by `guest-checks.sh`; that it powers off at
//! the end is part of every case.

use anyhow::Result;
use xtask::accel::Accelerator;
use xtask::build;
use xtask::qemu::{Machine, Wrapping};

use crate::bench::{Bench, Release, Root, System};
use crate::microvm;

const CHECKS: &str = include_str!("guest-checks.sh");

/// How a machine comes to the firmware.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// `-bios`: from the reset vector, in ROM.
    Bios,
    /// `-drive if=pflash`: from the reset vector, in flash.
    Pflash,
    /// `-kernel` with the ELF file: from a PVH loader, kernel and initrd in one
    /// module.
    Pvh,
}

/// One cell of the matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Case {
    pub(crate) model: &'static str,
    pub(crate) memory_mebibytes: u64,
    pub(crate) processors: u32,
    pub(crate) release: Release,
    pub(crate) root: Root,
    pub(crate) cpu: &'static str,
    pub(crate) entry: Entry,
}

const MODELS: [&str; 2] = ["pc", "q35"];
/// Memory sizes in MiB.
pub(crate) const MEMORIES: [u64; 3] = [256, 3 * 1024, 16 * 1024];
/// Processor models, and how many of them.
pub(crate) const CPUS: [(&str, u32); 3] = [("qemu64", 1), ("EPYC", 2), ("max", 4)];
const ENTRIES: [Entry; 3] = [Entry::Bios, Entry::Pflash, Entry::Pvh];
/// All kernels.
pub(crate) const RELEASES: [Release; 5] = [
    Release::Bullseye,
    Release::Bookworm,
    Release::BookwormGeneric,
    Release::Trixie,
    Release::Sid,
];

impl Entry {
    /// What `xtask` calls it.
    pub(crate) fn wrapping(self) -> Wrapping {
        match self {
            Entry::Bios => Wrapping::Bios,
            Entry::Pflash => Wrapping::Pflash,
            Entry::Pvh => Wrapping::Pvh(build::elf()),
        }
    }
}

impl Case {
    /// A cell of the first matrix: what the lowest six bits of `index` say.
    fn new(index: u32) -> Case {
        let bit = |n: u32| index >> n & 1 == 1;
        Case {
            model: if bit(0) { "pc" } else { "q35" },
            memory_mebibytes: if bit(1) { 6 * 1024 } else { 128 },
            processors: if bit(2) { 4 } else { 1 },
            release: if bit(3) {
                Release::Trixie
            } else {
                Release::Bookworm
            },
            root: if bit(4) { Root::Disk } else { Root::Initrd },
            cpu: if bit(5) { "qemu64" } else { "max" },
            entry: Entry::Bios,
        }
    }

    /// Whether the cell belongs to the representative part: eight cells in
    /// which every two values of different coordinates meet (the orthogonal
    /// array L8).
    fn representative(index: u32) -> bool {
        let bit = |n: u32| index >> n & 1;
        bit(3) == bit(0) ^ bit(1) && bit(4) == bit(0) ^ bit(2) && bit(5) == bit(1) ^ bit(2)
    }

    /// A cell of the second matrix, and whether it is in the third of them that
    /// is representative: with four coordinates given, the fifth follows.
    fn on_platform([model, memory, cpu, entry, release]: [usize; 5]) -> (Case, bool) {
        let (cpu_name, processors) = CPUS[cpu];
        let case = Case {
            model: MODELS[model],
            memory_mebibytes: MEMORIES[memory],
            processors,
            release: RELEASES[release],
            root: Root::Initrd,
            cpu: cpu_name,
            entry: ENTRIES[entry],
        };
        (case, (model + memory + cpu + entry + release) % 3 == 0)
    }

    /// What the case is called.
    pub fn name(&self) -> String {
        let root = match self.root {
            Root::Initrd => "initrd",
            Root::Disk => "disk",
        };
        let entry = match self.entry {
            Entry::Bios => "bios",
            Entry::Pflash => "pflash",
            Entry::Pvh => "pvh",
        };
        format!(
            "linux-{}-{}-{entry}-{}M-{}cpu-{}-{root}",
            self.release.linux(),
            self.model.replace([',', '='], "-"),
            self.memory_mebibytes,
            self.processors,
            self.cpu,
        )
    }

    /// Memory of the guest in MiB.
    pub fn memory_mebibytes(&self) -> u64 {
        self.memory_mebibytes
    }

    /// The configuration tables that QEMU gives to this machine.
    fn tables(&self) -> &'static str {
        match self.model {
            model if !model.starts_with("microvm") => "ACPI SMBIOS",
            model if model.ends_with("acpi=off") => "",
            _ => "ACPI",
        }
    }

    /// A flag that the kernel finds in use: `max` has page tables of five levels,
    /// under KVM only if the host has. Debian's 5.10 is made without them.
    fn flag(&self, accelerator: Accelerator) -> &'static str {
        match (self.cpu, accelerator, self.release) {
            (_, _, Release::Bullseye) => "fpu",
            ("max", Accelerator::Tcg, _) => "la57",
            _ => "fpu",
        }
    }

    /// Boots and checks from inside.
    ///
    /// # Errors
    /// When the guest does not come up, a check fails or it does not power off.
    pub fn run(&self, bench: &Bench) -> Result<()> {
        let machine = Machine {
            model: self.model.into(),
            memory: format!("{}M", self.memory_mebibytes),
            processors: self.processors,
            cpu: Some(self.cpu.into()),
            wrapping: self.entry.wrapping(),
            ..bench.machine()
        };
        let memory_kib = self.memory_mebibytes * 1024;
        let script = format!(
            "MEMORY_KIB={memory_kib}\nPROCESSORS={}\nTABLES='{}'\nFLAG={}\n{CHECKS}",
            self.processors,
            self.tables(),
            self.flag(machine.accelerator),
        );
        let outcome = bench.succeed(
            &self.name(),
            machine,
            System::new(self.release, self.root),
            &script,
        )?;
        let figures = outcome.output.trim().replace('\n', "; ");
        eprintln!(
            "{}: {:.1} s; {figures}",
            self.name(),
            outcome.elapsed.as_secs_f32()
        );
        Ok(())
    }
}

/// The cells of all matrices and a few outside of them, or the representative
/// parts.
pub fn cases(all: bool) -> Vec<Case> {
    let first = (0..64)
        .filter(|index| all || Case::representative(*index))
        .map(Case::new);
    let second = coordinates().map(Case::on_platform);
    let second = second.filter(|(_, part)| all || *part);
    let smallest = Case {
        memory_mebibytes: 64,
        release: Release::Bullseye,
        ..Case::new(0)
    };
    let most_processors = [0, 1].map(|index| Case {
        memory_mebibytes: 1024,
        processors: 16,
        ..Case::new(index)
    });
    first
        .chain(second.map(|(case, _)| case))
        .chain(microvm::cases(all))
        .chain([smallest])
        .chain(most_processors)
        .collect()
}

/// All coordinates of the second matrix.
fn coordinates() -> impl Iterator<Item = [usize; 5]> {
    cells([
        MODELS.len(),
        MEMORIES.len(),
        CPUS.len(),
        ENTRIES.len(),
        RELEASES.len(),
    ])
}

/// All coordinates of a matrix of these sizes.
pub(crate) fn cells(sizes: [usize; 5]) -> impl Iterator<Item = [usize; 5]> {
    (0..sizes.iter().product()).map(move |index: usize| {
        let mut rest = index;
        sizes.map(|size| {
            let coordinate = rest % size;
            rest /= size;
            coordinate
        })
    })
}

/// Fails unless every two values of different coordinates that meet in `all`
/// meet in `part`.
#[cfg(test)]
pub(crate) fn assert_pairs_meet(part: &[[usize; 5]], all: &[[usize; 5]]) {
    let pairs = |cells: &[[usize; 5]], one: usize, other: usize| {
        let pairs = cells.iter().map(|at| (at[one], at[other]));
        pairs.collect::<std::collections::BTreeSet<_>>()
    };
    for (one, other) in (0..5).flat_map(|one| (0..one).map(move |other| (one, other))) {
        let (found, expected) = (pairs(part, one, other), pairs(all, one, other));
        assert_eq!(found, expected, "coordinates {one} and {other}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_of_values_is_represented() {
        let part: Vec<u32> = (0..64)
            .filter(|index| Case::representative(*index))
            .collect();
        assert_eq!(part.len(), 8);
        for (one, other) in (0..6).flat_map(|one| (0..one).map(move |other| (one, other))) {
            let mut pairs: Vec<_> = part
                .iter()
                .map(|i| (i >> one & 1, i >> other & 1))
                .collect();
            pairs.sort_unstable();
            pairs.dedup();
            assert_eq!(pairs.len(), 4, "coordinates {one} and {other}");
        }
    }

    #[test]
    fn a_third_represents_every_pair_of_the_second_matrix() {
        let part: Vec<_> = coordinates()
            .filter(|at| Case::on_platform(*at).1)
            .collect();
        assert!(part.len() * 2 < coordinates().count());
        assert_pairs_meet(&part, &coordinates().collect::<Vec<_>>());
    }

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = cases(true).iter().map(Case::name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), cases(true).len());
    }
}
