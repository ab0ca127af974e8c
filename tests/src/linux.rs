//! Linux comes up complete, on every kind of machine: the matrix.
//!
//! Checked from inside the guest by `guest-checks.sh`; that it powers off at
//! the end is part of every case.

use anyhow::Result;
use xtask::qemu::Machine;

use crate::bench::{Bench, Release, Root, System};

const CHECKS: &str = include_str!("guest-checks.sh");

/// One cell of the matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Case {
    model: &'static str,
    memory_mebibytes: u64,
    processors: u32,
    release: Release,
    root: Root,
    cpu: &'static str,
}

impl Case {
    /// The cell whose coordinates are the lowest six bits of `index`.
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
        }
    }

    /// Whether the cell belongs to the representative part: eight cells in
    /// which every two values of different coordinates meet (the orthogonal
    /// array L8).
    fn representative(index: u32) -> bool {
        let bit = |n: u32| index >> n & 1;
        bit(3) == bit(0) ^ bit(1) && bit(4) == bit(0) ^ bit(2) && bit(5) == bit(1) ^ bit(2)
    }

    /// What the case is called.
    pub fn name(&self) -> String {
        let root = match self.root {
            Root::Initrd => "initrd",
            Root::Disk => "disk",
        };
        format!(
            "linux-{}-{}-{}M-{}cpu-{}-{root}",
            self.release.linux(),
            self.model,
            self.memory_mebibytes,
            self.processors,
            self.cpu,
        )
    }

    /// Memory of the guest in MiB.
    pub fn memory_mebibytes(&self) -> u64 {
        self.memory_mebibytes
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
            ..bench.machine()
        };
        let memory_kib = self.memory_mebibytes * 1024;
        let script = format!(
            "MEMORY_KIB={memory_kib}\nPROCESSORS={}\n{CHECKS}",
            self.processors
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

/// The cells of the matrix and the kernels outside of it, or the representative
/// part.
pub fn cases(all: bool) -> Vec<Case> {
    let cells = (0..64)
        .filter(|index| all || Case::representative(*index))
        .map(Case::new);
    let others = [Release::Bullseye, Release::Sid].map(|release| Case {
        release,
        ..Case::new(0)
    });
    cells.chain(others.into_iter().filter(|_| all)).collect()
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
    fn names_are_unique() {
        let mut names: Vec<_> = cases(true).iter().map(Case::name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), 66);
    }
}
