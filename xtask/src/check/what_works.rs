//! The page "what works": every scenario, in words, from the scenarios' own sources, so that it says what was seen.

use std::{fs, path::PathBuf};

use anyhow::{Context, Result, ensure};

use crate::process::root;

const PAGE: &str = "docs/what-works.md";
/// The programs of scenarios, with what is said of each.
const PROGRAMS: [(&str, &str); 4] = [
    (
        "scenarios",
        "What a user of peer pods sees. A scenario marked ● runs with runc first, which shows that it asks for nothing but \
         what any pod does; the others are about virtual machines and run as peer pods alone.",
    ),
    (
        "disruptions",
        "What a user sees when a part of the node dies, or is set to work otherwise. Peer pods alone: other runtimes share the node's fate.",
    ),
    (
        "instances",
        "Peer pods whose VMs are EC2 instances: on an emulator of EC2 whose instances are machines that boot the published disk.",
    ),
    (
        "compatible",
        "What Kata's own shims, the Go one and the Rust one, ask of the adaptor and of the agent in the VM: their calls in \
         their order, by plain ttrpc clients.",
    ),
];

/// Compares the page with the scenarios.
pub(crate) fn check() -> Result<()> {
    let there = fs::read_to_string(root().join(PAGE)).unwrap_or_default();
    ensure!(
        there == render()?,
        "{PAGE} is not what the scenarios say: run `cargo xtask docs`"
    );
    Ok(())
}

/// Writes the page.
pub(crate) fn write() -> Result<()> {
    let path = root().join(PAGE);
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    fs::write(&path, render()?).with_context(|| format!("cannot write {}", path.display()))
}

fn render() -> Result<String> {
    let mut page = String::from(
        "# What works\n\nGenerated from the scenarios by `cargo xtask docs`; `make test` runs every one of them on a real \
         Kubernetes.\n",
    );
    for (program, about) in PROGRAMS {
        page += &format!("\n## {}\n\n{about}\n", capitalised(program));
        for path in sources(program)? {
            let text =
                fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            page += &section(&text).unwrap_or_default();
        }
    }
    Ok(page)
}

fn sources(program: &str) -> Result<Vec<PathBuf>> {
    let folder = root().join("crates/testkit/tests").join(program);
    let entries = fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))?;
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|ending| ending == "rs") && !path.ends_with("main.rs"));
    paths.sort();
    Ok(paths)
}

/// One file: what it is about, and its scenarios, where it has some.
fn section(text: &str) -> Option<String> {
    let about: Vec<_> = text
        .lines()
        .map_while(|line| line.strip_prefix("//!"))
        .map(str::trim)
        .collect();
    let mut section = format!("\n### {}\n\n", about.join(" ").trim_end_matches('.'));
    let compact: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let names = |text: &str, before: &str, mark: &str| -> Vec<(usize, String)> {
        text.match_indices(before)
            .filter_map(|(at, _)| {
                let rest = text[at + before.len()..].trim_start();
                let end = rest.find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_')?;
                Some((at, format!("- {mark}{}\n", sentence(&rest[..end]))))
            })
            .collect()
    };
    let mut found = names(&compact, "scenario!(", "● ");
    found.extend(names(&compact, "#[test] fn", ""));
    found.extend(names(&compact, "on_node! { async fn", ""));
    found.sort();
    if found.is_empty() {
        return None;
    }
    section.extend(found.into_iter().map(|(_, line)| line));
    Some(section)
}

/// A test's name as a sentence.
fn sentence(name: &str) -> String {
    capitalised(&name.replace('_', " "))
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters
        .next()
        .map(|first| first.to_uppercase().chain(letters).collect())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scenarios_and_tests_are_told_in_their_order() {
        let text = "//! Volumes.\n\nscenario!(\n    files_last,\n    bed, runtime, {});\n#[test]\nfn a_disk_fills() {}\n\
                    on_node! {\n    async fn one_call() {}\n}\n";
        let told = section(text).unwrap();
        assert_eq!(
            told,
            "\n### Volumes\n\n- ● Files last\n- A disk fills\n- One call\n"
        );
        assert_eq!(section("//! Helpers.\n\nfn help() {}\n"), None);
    }
}
