//! Rules that a machine can hold: sizes of files, leftovers, paths of one machine.

use std::{fs, path::Path};

use anyhow::{Context, Result, ensure};

use crate::process::{command, output, root};

/// A file longer than this is to be divided.
const LINES_LIMIT: usize = 600;
/// Half of all files are shorter than this.
const MEDIAN_LIMIT: usize = 200;
/// What is left over from writing; the words are split so that this file does not find itself.
const LEFTOVERS: [&str; 5] = [
    concat!("todo", "!("),
    concat!("unimplemented", "!("),
    concat!("FIX", "ME"),
    concat!("dbg", "!("),
    concat!("#[ig", "nore"),
];

/// Checks every Rust file that git knows.
pub(crate) fn check() -> Result<()> {
    let listed = output(&mut command(
        "git",
        &["ls-files", "--cached", "--others", "--exclude-standard", "*.rs"],
    ))?;
    let mut wrong = Vec::new();
    let mut lengths = Vec::new();
    for name in listed.lines().filter(|name| root().join(name).exists()) {
        lengths.push(check_file(&root().join(name), name, &mut wrong)?);
    }
    lengths.sort_unstable();
    let median = lengths.get(lengths.len() / 2).copied().unwrap_or_default();
    if median > MEDIAN_LIMIT {
        wrong.push(format!(
            "the median file has {median} lines, more than {MEDIAN_LIMIT}"
        ));
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    println!(
        "{} files, {} lines, median {median}",
        lengths.len(),
        lengths.iter().sum::<usize>()
    );
    Ok(())
}

fn check_file(path: &Path, name: &str, wrong: &mut Vec<String>) -> Result<usize> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {name}"))?;
    let lines = text.lines().count();
    if lines > LINES_LIMIT {
        wrong.push(format!(
            "{name} has {lines} lines, more than {LINES_LIMIT}: divide it"
        ));
    }
    for (number, line) in text.lines().enumerate() {
        if let Some(leftover) = LEFTOVERS.iter().find(|leftover| line.contains(**leftover)) {
            wrong.push(format!("{name}:{}: {leftover}…", number + 1));
        }
        if line.contains("unsafe_code)]")
            && line.contains("allow")
            && !name.contains("unsafe")
            && !name.ends_with("proto/src/lib.rs")
        {
            wrong.push(format!(
                "{name}:{}: unsafe code belongs in a module named for it",
                number + 1
            ));
        }
    }
    if !text.starts_with("//!") && !name.contains("/fuzz_targets/") {
        wrong.push(format!("{name}: the first line says what the file is (//! …)"));
    }
    Ok(lines)
}
