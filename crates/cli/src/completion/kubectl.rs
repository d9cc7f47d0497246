//! What kubectl is told of the arguments after `kubectl peerpods`.
//!
//! kubectl runs `kubectl_complete-peerpods` with them, the last one unfinished or empty. Each line of the answer is a completion
//! with its description after a tab; the last line is a colon and what the shell is to do with them, in cobra's bits
//! (`k8s.io/kubectl/pkg/cmd/plugin/plugin_completion.go`, cobra's `ShellCompDirective`).

use std::{
    ffi::OsString,
    io::{self, Write},
};

use clap_complete::{CompletionCandidate, engine::complete};

/// The shell puts no space after a completion.
const NO_SPACE: u8 = 2;
/// The shell names no files by itself: those that fit are among the completions.
const NO_FILES: u8 = 4;

/// Prints how the last of these arguments can go on. The first is the program's name.
pub(crate) fn answer(mut command: clap::Command, arguments: Vec<OsString>) -> io::Result<()> {
    let Some(last) = arguments.len().checked_sub(1).filter(|index| *index > 0) else {
        return Ok(());
    };
    let is_new = arguments[last].is_empty();
    let folder = std::env::current_dir().ok();
    // Arguments that lead nowhere have no completions.
    let mut candidates = complete(&mut command, arguments, last, folder.as_deref()).unwrap_or_default();
    // As with kubectl's own commands, options are shown to whom begins one.
    candidates.retain(|one| !(is_new && is_option(one)));
    io::stdout().write_all(text(&candidates).as_bytes())
}

fn is_option(candidate: &CompletionCandidate) -> bool {
    candidate.get_value().as_encoded_bytes().starts_with(b"-")
}

fn text(candidates: &[CompletionCandidate]) -> String {
    let mut text = String::new();
    for candidate in candidates {
        text.push_str(&candidate.get_value().to_string_lossy());
        let help = candidate.get_help().map(ToString::to_string);
        if let Some(line) = help.as_deref().and_then(|help| help.lines().next()) {
            text.push('\t');
            text.push_str(line);
        }
        text.push('\n');
    }
    // A folder's path goes on.
    let is_folder = |one: &CompletionCandidate| one.get_value().as_encoded_bytes().ends_with(b"/");
    let goes_on = !candidates.is_empty() && candidates.iter().all(is_folder);
    let directive = if goes_on { NO_FILES | NO_SPACE } else { NO_FILES };
    text.push_str(&format!(":{directive}\n"));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_completion_is_a_line_with_its_description() {
        let list = CompletionCandidate::new("list").help(Some("Lists peer pods.\nAll of them.".into()));
        assert_eq!(text(&[list]), "list\tLists peer pods.\n:4\n");
        assert_eq!(text(&[]), ":4\n");
    }

    #[test]
    fn a_folder_is_no_end() {
        let (folder, file) = (
            CompletionCandidate::new("image/"),
            CompletionCandidate::new("guest"),
        );
        assert_eq!(text(std::slice::from_ref(&folder)), "image/\n:6\n");
        assert_eq!(text(&[folder, file]), "image/\nguest\n:4\n");
    }
}
