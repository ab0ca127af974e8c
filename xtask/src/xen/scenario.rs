//! What happens in dom0: a shell script, and the files it works with.
//!
//! The script runs in the directory that holds the files, under busybox ash, and
//! begins with the functions of `helpers.sh` at hand.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::domain::Domain;

/// A script and its files.
#[derive(Clone, Debug)]
pub struct Scenario {
    script: String,
    files: Vec<(String, Content)>,
}

#[derive(Clone, Debug)]
enum Content {
    Bytes(Vec<u8>),
    At(PathBuf),
}

impl Scenario {
    /// A scenario of `script` alone.
    pub fn new(script: &str) -> Scenario {
        Scenario {
            script: script.to_owned(),
            files: Vec::new(),
        }
    }

    /// Replaces the script.
    pub fn set_script(&mut self, script: &str) {
        script.clone_into(&mut self.script);
    }

    /// Adds a file of these bytes.
    pub fn add_bytes(&mut self, name: &str, bytes: impl Into<Vec<u8>>) {
        self.add(name, Content::Bytes(bytes.into()));
    }

    /// Adds the file at `path`; once is enough if it is added several times.
    pub fn add_file(&mut self, name: &str, path: &Path) {
        self.add(name, Content::At(path.to_owned()));
    }

    /// Adds the configuration of a guest as `<name>.cfg`.
    pub fn add_domain(&mut self, domain: &Domain) {
        let configuration = domain.configuration();
        self.add_bytes(&format!("{}.cfg", domain.name), configuration);
    }

    fn add(&mut self, name: &str, content: Content) {
        self.files.retain(|(known, _)| known != name);
        self.files.push((name.to_owned(), content));
    }

    /// Writes script and files into `directory`; files are linked where the
    /// file system allows it, not copied.
    ///
    /// # Errors
    /// When a file cannot be read or written.
    pub fn write_to(&self, directory: &Path) -> Result<()> {
        let script = format!(". /bed/helpers.sh\n{}", self.script);
        fs::write(directory.join("scenario"), script)?;
        for (name, content) in &self.files {
            let file = directory.join(name);
            match content {
                Content::Bytes(bytes) => fs::write(file, bytes)?,
                Content::At(path) => link_or_copy(path, &file)
                    .with_context(|| format!("cannot copy {}", path.display()))?,
            }
        }
        Ok(())
    }
}

fn link_or_copy(from: &Path, to: &Path) -> Result<()> {
    // A link to the link's target: what dom0 sees must not lead out of the share.
    let from = from.canonicalize()?;
    if fs::hard_link(&from, to).is_err() {
        fs::copy(from, to)?;
    }
    Ok(())
}
