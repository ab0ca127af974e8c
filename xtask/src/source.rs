//! House rules that no compiler checks.
//!
//! `unsafe` is written only behind the named doors; every file opens by saying
//! what it is for; no file grows too long to read.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::workspace;

/// Where `unsafe` may be written: paths relative to the workspace begin so.
pub const DOORS: [&str; 9] = [
    "firmware/runtime/",
    "firmware/src/arch/",
    "firmware/src/entry",
    "firmware/src/ports",
    "firmware/src/xen/",
    "services/src/abi/",
    "tests/guest/",
    "tests/tests/runtime_image",
    "tests/varstored/src/xen",
];

/// A file has fewer lines than this.
const LINE_LIMIT: usize = 500;

/// Checks every Rust file of the workspace.
///
/// # Errors
/// With all violations, one per line.
pub fn check() -> Result<()> {
    let mut violations = Vec::new();
    for file in rust_files(workspace::root())? {
        let source =
            fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let name = workspace::shown(&file);
        violations.extend(violations_in(&name, &source));
    }
    if violations.is_empty() {
        return Ok(());
    }
    bail!("{}", violations.join("\n"))
}

/// All files of Rust below `directory`, in order; not those of hidden directories or
/// of cargo.
///
/// # Errors
/// When a directory cannot be read.
pub fn rust_files(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() && !name.starts_with('.') && name != "target" {
            files.extend(rust_files(&path)?);
        } else if name.ends_with(".rs") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn violations_in(name: &str, source: &str) -> Vec<String> {
    let mut found = Vec::new();
    if !source.starts_with("//! ") {
        found.push(format!(
            "{name}:1: does not open with `//!`: say what the file promises"
        ));
    }
    let lines = source.lines().count();
    if lines >= LINE_LIMIT {
        found.push(format!(
            "{name}: {lines} lines, the limit is {LINE_LIMIT}: split it"
        ));
    }
    if !DOORS.iter().any(|door| name.starts_with(door)) {
        let lines = unsafe_lines(source).into_iter();
        found.extend(lines.map(|line| {
            format!(
                "{name}:{line}: `unsafe` outside its doors: {}",
                DOORS.join(" ")
            )
        }));
    }
    found
}

/// The lines, from 1, on which code uses `unsafe` for more than the type of a
/// function pointer, which promises nothing by itself.
fn unsafe_lines(source: &str) -> Vec<usize> {
    let code = code_only(source);
    let word = "unsafe";
    let uses = code.match_indices(word).filter(|(at, _)| {
        let before = code[..*at].chars().next_back();
        let after = &code[at + word.len()..];
        !before.is_some_and(in_identifier)
            && !after.starts_with(in_identifier)
            && !is_pointer_type(after)
    });
    uses.map(|(at, _)| code[..at].matches('\n').count() + 1)
        .collect()
}

fn in_identifier(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Whether ` fn(` or ` extern "abi" fn(` follows. The ABI's name is blanked out.
fn is_pointer_type(after: &str) -> bool {
    let mut rest = after.trim_start();
    if let Some(external) = rest.strip_prefix("extern") {
        rest = external.trim_start_matches(|c: char| c.is_whitespace() || c == '"');
    }
    rest.strip_prefix("fn")
        .is_some_and(|rest| rest.trim_start().starts_with('('))
}

/// `source` with the content of comments and literals blanked out; lines stay.
fn code_only(source: &str) -> String {
    let mut code = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let skipped = comment(rest).or_else(|| literal(rest, code.chars().next_back()));
        let taken = skipped.unwrap_or(first.len_utf8());
        let (token, after) = rest.split_at(taken);
        match skipped {
            Some(_) => code.extend(token.chars().map(|c| if c == '\n' { '\n' } else { ' ' })),
            None => code.push(first),
        }
        rest = after;
    }
    code
}

/// Length of the comment that `rest` begins with.
fn comment(rest: &str) -> Option<usize> {
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    rest.starts_with("/*").then(|| block_comment(rest))
}

/// Block comments nest, Rust Reference "Comments".
fn block_comment(rest: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < rest.len() {
        let here = &rest.as_bytes()[at..];
        let step = if here.starts_with(b"/*") {
            depth += 1;
            2
        } else if here.starts_with(b"*/") {
            depth -= 1;
            2
        } else {
            1
        };
        at += step;
        if depth == 0 {
            break;
        }
    }
    at
}

/// Length of the string or character literal that `rest` begins with.
fn literal(rest: &str, before: Option<char>) -> Option<usize> {
    match rest.as_bytes() {
        [b'"', ..] => Some(1 + end_of_quoted(&rest[1..], '"')),
        [b'r', ..] if !before.is_some_and(|c| in_identifier(c) && c != 'b' && c != 'c') => {
            raw_string(rest)
        }
        [b'\'', ..] => character(rest),
        _ => None,
    }
}

/// Bytes up to and including the closing `quote`.
fn end_of_quoted(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return at + c.len_utf8(),
            _ => {}
        }
    }
    rest.len()
}

fn raw_string(rest: &str) -> Option<usize> {
    let hashes = rest[1..].bytes().take_while(|byte| *byte == b'#').count();
    let content = rest[1 + hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let length = content
        .find(&end)
        .map_or(content.len(), |at| at + end.len());
    Some(rest.len() - content.len() + length)
}

/// A character literal; a lifetime has no closing quote after one character.
fn character(rest: &str) -> Option<usize> {
    let content = &rest[1..];
    let first = content.chars().next()?;
    let closed = content[first.len_utf8()..].starts_with('\'');
    (first == '\\' || closed).then(|| 1 + end_of_quoted(content, '\''))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_functions_and_attributes_are_uses() {
        assert_eq!(unsafe_lines("fn f() {\n    unsafe { g() }\n}\n"), [2]);
        assert_eq!(
            unsafe_lines("unsafe fn f() {}\nunsafe impl Send for X {}"),
            [1, 2]
        );
        assert_eq!(
            unsafe_lines("#[unsafe(no_mangle)]\npub unsafe extern \"C\" fn f() {}"),
            [1, 2]
        );
        assert_eq!(
            unsafe_lines("let c = 'x'; let s: &'a str = \"\"; unsafe {}"),
            [1]
        );
    }

    #[test]
    fn pointer_types_and_other_words_are_none() {
        assert!(unsafe_lines("type E = unsafe extern \"efiapi\" fn(*mut H) -> S;").is_empty());
        assert!(unsafe_lines("type E = Option<unsafe fn()>;").is_empty());
        assert!(unsafe_lines("#![forbid(unsafe_code)]\nlet not_unsafe = 1;").is_empty());
    }

    #[test]
    fn comments_and_literals_are_none() {
        let quiet = [
            "// unsafe {}\n/* unsafe /* unsafe */ unsafe {} */",
            "let s = \"unsafe { \\\" unsafe {\";",
            "let s = r#\"unsafe \" unsafe {\"#; let b = br\"unsafe {\";",
            "let quote = '\"'; // unsafe {\nlet other = '\\'';",
        ];
        for source in quiet {
            assert!(unsafe_lines(source).is_empty(), "{source}");
        }
        assert_eq!(unsafe_lines("/* a\n\n*/ let s = \"\n\"; unsafe {}"), [4]);
    }

    #[test]
    fn doors_are_open_and_nothing_else() {
        let source = "//! A door.\nunsafe fn f() {}\n";
        assert!(violations_in("services/src/abi/boot.rs", source).is_empty());
        let found = violations_in("services/src/boot.rs", source);
        assert_eq!(found.len(), 1);
        assert!(
            found[0].starts_with("services/src/boot.rs:2: `unsafe`"),
            "{}",
            found[0]
        );
    }

    #[test]
    fn files_open_with_their_purpose_and_end_early() {
        assert_eq!(violations_in("a.rs", "use std::fs;\n").len(), 1);
        let long = format!("//! Long.\n{}", "\n".repeat(LINE_LIMIT - 1));
        assert_eq!(violations_in("a.rs", &long).len(), 1);
    }
}
