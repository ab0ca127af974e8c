//! QEMU's `microvm`, with and without PCI and ACPI: its part of the matrix.
//!
//! It has no flash for firmware, so there are two entries. Without ACPI Linux
//! finds no PCI bus, and can only reset it. It has one processor here: see
//! `xtask::qemu` on its timer.

use crate::bench::Root;
use crate::linux::{self, CPUS, Case, Entry, MEMORIES, RELEASES};

/// The machine in its variants.
pub const MODELS: [&str; 4] = [
    "microvm",
    "microvm,pcie=on",
    "microvm,acpi=off",
    "microvm,pcie=on,acpi=off",
];
const ENTRIES: [Entry; 2] = [Entry::Bios, Entry::Pvh];

/// All cells, or the representative ones: one for each kernel on each variant.
pub(crate) fn cases(all: bool) -> impl Iterator<Item = Case> {
    let part = coordinates().filter(move |at| all || representative(*at));
    part.map(case)
}

fn coordinates() -> impl Iterator<Item = [usize; 5]> {
    linux::cells([
        MODELS.len(),
        MEMORIES.len(),
        CPUS.len(),
        ENTRIES.len(),
        RELEASES.len(),
    ])
}

/// With machine and kernel given, the other three follow, such that every two
/// values of different coordinates meet.
fn representative([model, memory, cpu, entry, release]: [usize; 5]) -> bool {
    let sum = model + release;
    memory == sum % 3 && cpu == (sum + model) % 3 && entry == sum % 2
}

fn case([model, memory, cpu, entry, release]: [usize; 5]) -> Case {
    Case {
        model: MODELS[model],
        memory_mebibytes: MEMORIES[memory],
        processors: 1,
        release: RELEASES[release],
        root: Root::Initrd,
        cpu: CPUS[cpu].0,
        entry: ENTRIES[entry],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_of_values_is_represented() {
        let all: Vec<_> = coordinates().collect();
        let part: Vec<_> = coordinates().filter(|at| representative(*at)).collect();
        assert_eq!(part.len(), MODELS.len() * RELEASES.len());
        linux::assert_pairs_meet(&part, &all);
    }
}
