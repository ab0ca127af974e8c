//! Child processes that either succeed or say which command line did not.

use std::ffi::OsStr;
use std::io::ErrorKind;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, anyhow, bail};

/// Cargo, the one that runs us when there is one, in the workspace.
pub fn cargo() -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command.current_dir(crate::workspace::root());
    command
}

/// Runs `command` with our own standard streams.
///
/// # Errors
/// When it cannot be started or does not end with status 0.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .map_err(|error| not_started(command, &error))?;
    if status.success() {
        return Ok(());
    }
    bail!("`{}` failed: {status}", line(command))
}

/// Runs `command` and returns its standard output; its errors go to ours.
///
/// # Errors
/// When it cannot be started or does not end with status 0.
pub fn capture(command: &mut Command) -> Result<Vec<u8>> {
    let output = command.stderr(Stdio::inherit()).output();
    let output = output.map_err(|error| not_started(command, &error))?;
    checked(command, output)
}

/// Runs `command`, returns its standard output as text; its errors are only
/// shown, as part of our own, when it fails.
///
/// # Errors
/// When it cannot be started, does not end with status 0 or prints no UTF-8.
pub fn text(command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .map_err(|error| not_started(command, &error))?;
    let errors = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    let bytes = checked(command, output).with_context(|| errors)?;
    String::from_utf8(bytes).with_context(|| format!("`{}` printed no UTF-8", line(command)))
}

fn checked(command: &Command, output: Output) -> Result<Vec<u8>> {
    if output.status.success() {
        return Ok(output.stdout);
    }
    bail!("`{}` failed: {}", line(command), output.status)
}

/// `command` as it could be typed into a shell.
pub fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(quoted).collect::<Vec<_>>().join(" ")
}

fn quoted(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+%@".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.into_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

fn not_started(command: &Command, error: &std::io::Error) -> anyhow::Error {
    let program = command.get_program().to_string_lossy();
    if error.kind() == ErrorKind::NotFound {
        return anyhow!("`{program}` is not installed or not on the PATH");
    }
    anyhow!("`{program}` could not be started: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_can_be_pasted_into_a_shell() {
        let mut command = Command::new("qemu");
        command.args(["-append", "console=ttyS0 it's", "-m", "512M", ""]);
        assert_eq!(
            line(&command),
            r"qemu -append 'console=ttyS0 it'\''s' -m 512M ''"
        );
    }

    #[test]
    fn failure_names_the_command() {
        let error = run(Command::new("sh").args(["-c", "exit 3"])).unwrap_err();
        assert_eq!(error.to_string(), "`sh -c 'exit 3'` failed: exit status: 3");
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = text(&mut Command::new("no-such-program")).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("`no-such-program` is not installed")
        );
    }
}
