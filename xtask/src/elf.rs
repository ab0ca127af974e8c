//! Sections of ELF files by their names.

use anyhow::{Context, Result};
use goblin::elf::{Elf, SectionHeader};

/// The header of the section `name`.
///
/// # Errors
/// When there is none.
pub fn section<'a>(elf: &'a Elf<'_>, name: &str) -> Result<&'a SectionHeader> {
    let mut headers = elf.section_headers.iter();
    headers
        .find(|header| elf.shdr_strtab.get_at(header.sh_name) == Some(name))
        .with_context(|| format!("expected a section {name}, found none"))
}
