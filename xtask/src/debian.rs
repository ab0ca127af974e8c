//! Debian packages as test material: fetched, verified, unpacked, not installed.
//!
//! Every suite gets an apt of its own below the target directory, so nothing of
//! the host's apt changes and root is not needed; the host's proxy settings
//! still apply. A package is fetched once: to follow the suite, delete
//! `target/debian`. With everything there, nothing needs the network.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, IsTerminal, stderr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use indicatif::{ProgressBar, ProgressStyle};

use crate::{host, process, workspace};

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
const MIRROR: &str = "http://deb.debian.org";

/// A part of the Debian archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suite {
    /// Debian 11, of which only security updates are still published.
    Bullseye,
    /// Debian 12.
    Bookworm,
    /// What Debian 12 has of later releases, where it has it; else as itself.
    BookwormBackports,
    /// Debian 13.
    Trixie,
    /// The unstable distribution.
    Sid,
}

impl Suite {
    fn name(self) -> &'static str {
        match self {
            Suite::Bullseye => "bullseye-security",
            Suite::Bookworm => "bookworm",
            Suite::BookwormBackports => "bookworm-backports",
            Suite::Trixie => "trixie",
            Suite::Sid => "sid",
        }
    }

    /// Archive and suite of each source, sources.list(5).
    fn sources(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Suite::Bullseye => &[("debian-security", "bullseye-security")],
            Suite::Bookworm => &[
                ("debian", "bookworm"),
                ("debian", "bookworm-updates"),
                ("debian-security", "bookworm-security"),
            ],
            Suite::BookwormBackports => &[
                ("debian", "bookworm-backports"),
                ("debian", "bookworm"),
                ("debian-security", "bookworm-security"),
            ],
            Suite::Trixie => &[("debian", "trixie"), ("debian-security", "trixie-security")],
            Suite::Sid => &[("debian", "sid")],
        }
    }
}

/// The directory that holds the files of `package` from `suite`; for a kernel's
/// metapackage, those of the current kernel, its modules included.
///
/// # Errors
/// When the package is not there yet and cannot be fetched or unpacked.
pub fn fetch(suite: Suite, package: &str) -> Result<PathBuf> {
    fetch_all(suite, &[package])?;
    Ok(directory_of(suite).join(package))
}

/// The directories of `packages`, as [`fetch`] gives one; apt's lists are
/// brought up to date once for all of them.
///
/// # Errors
/// When a package is not there yet and cannot be fetched or unpacked.
pub fn fetch_all(suite: Suite, packages: &[&str]) -> Result<Vec<PathBuf>> {
    let directory = directory_of(suite);
    let missing = || {
        let packages = packages.iter().copied();
        packages.filter(|package| !directory.join(package).is_dir())
    };
    if missing().next().is_some() {
        host::require(&[host::APT_GET, host::DPKG_DEB])?;
        fs::create_dir_all(&directory)?;
        let lock = File::create(directory.join("lock"))?;
        lock.lock().context("cannot lock the package directory")?;
        let missing: Vec<_> = missing().collect();
        download(suite, &directory, &missing)?;
    }
    let links = packages.iter().map(|package| directory.join(package));
    Ok(links.collect())
}

fn directory_of(suite: Suite) -> PathBuf {
    workspace::target().join("debian").join(suite.name())
}

fn download(suite: Suite, directory: &Path, packages: &[&str]) -> Result<()> {
    if packages.is_empty() {
        return Ok(());
    }
    let apt = Apt::new(suite, &directory.join("apt"))?;
    apt.with_progress("package lists", apt.command("apt-get").arg("update"))?;
    let what = packages.join(" ");
    let fetched = || format!("cannot fetch {what} from Debian {}", suite.name());
    let resolved = packages.iter().map(|package| apt.resolve(package));
    let resolved: Vec<_> = resolved.collect::<Result<_>>().with_context(fetched)?;
    let pieces: Vec<_> = resolved.iter().flat_map(|(_, pieces)| pieces).collect();
    let archives = apt.download(&pieces).with_context(fetched)?;
    for (package, (version, pieces)) in packages.iter().zip(&resolved) {
        let name = format!("{package}_{}", version.replace(':', "%3a"));
        unpack(&archives_of(pieces, &archives), &directory.join(&name))?;
        // The link comes last: whatever it names is complete.
        std::os::unix::fs::symlink(&name, directory.join(package))?;
    }
    apt.forget_archives()
}

/// Those of `archives` that hold `packages`; a file is called
/// `<package>_<version>_<architecture>.deb`.
fn archives_of(packages: &[String], archives: &[PathBuf]) -> Vec<PathBuf> {
    let holds = |archive: &&PathBuf| {
        let name = archive.file_name().unwrap_or_default().to_string_lossy();
        let package = name.split('_').next().unwrap_or_default();
        packages.iter().any(|known| known == package)
    };
    archives.iter().filter(holds).cloned().collect()
}

fn unpack(archives: &[PathBuf], directory: &Path) -> Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    let partial = directory.with_extension("partial");
    if partial.exists() {
        fs::remove_dir_all(&partial)?;
    }
    for archive in archives {
        let mut command = host::DPKG_DEB.command();
        process::run(command.arg("-x").arg(archive).arg(&partial))?;
    }
    fs::rename(&partial, directory)?;
    Ok(())
}

/// An apt whose lists, cache and sources are below one directory.
struct Apt {
    directory: PathBuf,
}

impl Apt {
    fn new(suite: Suite, directory: &Path) -> Result<Apt> {
        ensure!(
            Path::new(KEYRING).is_file(),
            "{KEYRING} is missing; to install: sudo apt-get install debian-archive-keyring"
        );
        for needed in ["state/lists/partial", "cache/archives/partial", "archives"] {
            fs::create_dir_all(directory.join(needed))?;
        }
        fs::write(directory.join("status"), "")?;
        fs::write(directory.join("sources.list"), sources(suite))?;
        fs::write(directory.join("apt.conf"), configuration(suite, directory))?;
        Ok(Apt {
            directory: directory.to_owned(),
        })
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.arg("-c").arg(self.directory.join("apt.conf"));
        command
            .current_dir(self.archives())
            .env("LC_ALL", "C.UTF-8");
        command
    }

    /// The version of `package`, and the packages it stands for: itself, unless
    /// it only collects the pieces of a kernel.
    fn resolve(&self, package: &str) -> Result<(String, Vec<String>)> {
        let record = self.record(package)?;
        let version = field(&record, "Version: ")
            .context("apt shows no version")?
            .to_owned();
        let pieces = kernel_pieces(&record);
        if pieces.is_empty() {
            return Ok((version, vec![package.to_owned()]));
        }
        let mut packages = Vec::new();
        for piece in pieces {
            packages.extend(self.resolve(&piece)?.1);
        }
        Ok((version, packages))
    }

    fn record(&self, package: &str) -> Result<String> {
        let mut show = self.command("apt-cache");
        process::text(show.args(["show", "--no-all-versions", package]))
    }

    /// The archives of `packages`, and nothing else, in a directory of their own.
    fn download(&self, packages: &[&String]) -> Result<Vec<PathBuf>> {
        self.forget_archives()?;
        let what = match packages {
            [package] => (*package).clone(),
            _ => format!("{} packages", packages.len()),
        };
        let mut command = self.command("apt-get");
        self.with_progress(&what, command.arg("download").args(packages))?;
        let archives = fs::read_dir(self.archives())?;
        archives.map(|entry| Ok(entry?.path())).collect()
    }

    fn archives(&self) -> PathBuf {
        self.directory.join("archives")
    }

    fn forget_archives(&self) -> Result<()> {
        fs::remove_dir_all(self.archives())?;
        Ok(fs::create_dir_all(self.archives())?)
    }

    fn with_progress(&self, what: &str, command: &mut Command) -> Result<()> {
        // apt writes its progress to any descriptor; standard output needs no dup.
        command.args(["-q", "-o", "APT::Status-Fd=1"]);
        let errors = File::create(self.directory.join("errors"))?;
        let mut child = command.stdout(Stdio::piped()).stderr(errors).spawn()?;
        let bar = bar(what);
        for line in child
            .stdout
            .take()
            .map(BufReader::new)
            .into_iter()
            .flat_map(BufRead::lines)
        {
            if let Some(percent) = line.ok().as_deref().and_then(percent) {
                bar.set_position(percent);
            }
        }
        let status = child.wait()?;
        bar.finish_and_clear();
        if !status.success() {
            let errors = fs::read_to_string(self.directory.join("errors"))?;
            bail!("`{}` failed: {}", process::line(command), errors.trim());
        }
        Ok(())
    }
}

fn sources(suite: Suite) -> String {
    let line = |(archive, suite): &(&str, &str)| {
        format!("deb [arch=amd64 signed-by={KEYRING}] {MIRROR}/{archive} {suite} main\n")
    };
    suite.sources().iter().map(line).collect()
}

/// apt.conf(5), read after the host's: everything that would touch the host's
/// state is moved or cleared, everything else (proxies, timeouts) stays.
fn configuration(suite: Suite, directory: &Path) -> String {
    let at = directory.display();
    // Of several sources the newest version counts, but not if it is a backport.
    let preferred = match suite {
        Suite::BookwormBackports => "APT::Default-Release \"bookworm-backports\";\n",
        _ => "",
    };
    format!(
        r#"{preferred}#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
APT::Architecture "amd64";
APT::Architectures {{ "amd64"; }};
APT::Sandbox::User "";
Acquire::Languages "none";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
Dir::Etc::sourcelist "{at}/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::State "{at}/state";
Dir::State::status "{at}/status";
Dir::Cache "{at}/cache";
"#
    )
}

fn field<'a>(record: &'a str, name: &str) -> Option<&'a str> {
    record.lines().find_map(|line| line.strip_prefix(name))
}

/// The packages a kernel's metapackage, or a kernel without image or modules,
/// depends on for them, such as `linux-image-6.1.0-56-cloud-amd64`.
fn kernel_pieces(record: &str) -> Vec<String> {
    let is_piece = |name: &&str| {
        ["linux-image-", "linux-binary-", "linux-modules-"]
            .iter()
            .any(|kind| {
                let release = name.strip_prefix(kind);
                release.is_some_and(|release| release.starts_with(|c: char| c.is_ascii_digit()))
            })
    };
    let depends = field(record, "Depends: ").unwrap_or_default().split(", ");
    let names = depends.filter_map(|dependency| dependency.split(' ').next());
    names.filter(is_piece).map(str::to_owned).collect()
}

/// The percentage in a progress line, apt's README.progress-reporting:
/// `dlstatus:<item>:<percent>:<description>`.
fn percent(line: &str) -> Option<u64> {
    let mut fields = line.strip_prefix("dlstatus:")?.split(':');
    let percent: f64 = fields.nth(1)?.parse().ok()?;
    (0.0..=100.0).contains(&percent).then_some(percent as u64)
}

fn bar(what: &str) -> ProgressBar {
    if !stderr().is_terminal() {
        eprintln!("xtask: fetching {what}");
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(100).with_message(what.to_owned());
    if let Ok(style) = ProgressStyle::with_template("xtask: fetching {msg} {wide_bar} {percent}%") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metapackage_is_followed_to_its_kernel() {
        let record = "Package: linux-image-cloud-amd64\nVersion: 6.1.192-2\n\
                      Depends: linux-base (>= 4), linux-image-6.1.0-56-cloud-amd64 (= 6.1.192-2)\n";
        assert_eq!(kernel_pieces(record), ["linux-image-6.1.0-56-cloud-amd64"]);
        assert_eq!(field(record, "Version: "), Some("6.1.192-2"));
    }

    #[test]
    fn a_kernel_in_pieces_is_put_together() {
        let record = "Depends: linux-binary-7.2.13-amd64 (= 7.2.13-1) | linux-binary-unsigned, \
                      linux-modules-7.2.13-amd64 (= 7.2.13-1), kmod\n";
        let expected = ["linux-binary-7.2.13-amd64", "linux-modules-7.2.13-amd64"];
        assert_eq!(kernel_pieces(record), expected);
        assert!(kernel_pieces("Depends: linux-image-cloud-amd64\n").is_empty());
        assert!(kernel_pieces("Package: busybox-static\n").is_empty());
    }

    #[test]
    fn progress_is_read_from_download_lines_only() {
        assert_eq!(
            percent("dlstatus:4:86.6818:Retrieving file 4 of 6"),
            Some(86)
        );
        assert_eq!(
            percent("Get:1 http://deb.debian.org/debian bookworm InRelease"),
            None
        );
        assert_eq!(percent("dlstatus:4:nan:x"), None);
    }
}
