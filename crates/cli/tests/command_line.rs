//! The program as a person meets it at a prompt.
#![allow(clippy::unwrap_used)] // A test stops where its bed fails.

use std::{
    env, fs,
    os::unix::fs::symlink,
    path::PathBuf,
    process::{Command, Output},
};

fn peerpodctl(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_peerpodctl"))
        .args(arguments)
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn help_shows_how_an_image_is_built_and_published() {
    let help = text(&peerpodctl(&["image", "build", "--help"]).stdout);
    for expected in [
        "apt-get download",
        "peerpodctl image build --guest peerpods-guest",
        "--stub-deb <FILE>",
        "--output <FORMAT>",
    ] {
        assert!(help.contains(expected), "no {expected:?} in:\n{help}");
    }
}

#[test]
fn a_build_that_cannot_be_says_what_is_wrong_and_exits_with_1() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("boot")).unwrap();
    fs::write(folder.path().join("guest"), "guest").unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let output = peerpodctl(&[
        "image",
        "build",
        "--guest",
        &path("guest"),
        "--kernel-dir",
        &path(""),
        "--directory",
        &path("image"),
    ]);
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
    let error = text(&output.stderr);
    let last = error.lines().last().unwrap();
    assert!(last.starts_with("error: cannot build the image: "), "{error}");
    assert!(last.contains("must hold exactly one boot/vmlinuz-*"), "{error}");
    assert!(!folder.path().join("image").exists());
}

#[test]
fn arguments_that_exclude_each_other_are_a_usage_error() {
    let output = peerpodctl(&[
        "image",
        "build",
        "--guest",
        "guest",
        "--kernel-dir",
        "tree",
        "--kernel-deb",
        "package",
        "--directory",
        "image",
    ]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("cannot be used with"));
}

#[test]
fn shells_get_their_completion() {
    for (shell, expected) in [
        ("bash", "complete -F _peerpodctl"),
        ("zsh", "#compdef peerpodctl"),
        ("fish", "complete -c peerpodctl"),
    ] {
        let script = text(&peerpodctl(&["completion", shell]).stdout);
        assert!(script.contains(expected), "no {expected:?} for {shell}");
    }
}

#[test]
fn kubectl_completes_what_follows_the_plugins_name() {
    let Some(programs) = env::var_os("PEERPODS_TEST_KUBERNETES").map(PathBuf::from) else {
        eprintln!("skipped: PEERPODS_TEST_KUBERNETES names no folder with kubectl");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    for name in ["kubectl-peerpods", "kubectl_complete-peerpods"] {
        symlink(env!("CARGO_BIN_EXE_peerpodctl"), folder.path().join(name)).unwrap();
    }
    fs::create_dir(folder.path().join("image")).unwrap();
    // What shells ask kubectl for as somebody types: completions, and last what to do with them.
    let completed = |line: &str| {
        let output = Command::new(programs.join("kubectl"))
            .args(["__complete", "peerpods"])
            .args(line.split(' '))
            .env("PATH", folder.path())
            .current_dir(folder.path())
            .output()
            .unwrap();
        text(&output.stdout)
    };
    let commands = completed("");
    for expected in [
        "image\tVM images",
        "\nlist\tLists peer pods and their VMs\n",
        "\n:4\n",
    ] {
        assert!(commands.contains(expected), "no {expected:?} in:\n{commands}");
    }
    assert!(!commands.contains("--"), "options that nobody began:\n{commands}");
    assert!(completed("li").starts_with("list\t"));
    assert!(completed("list --all").starts_with("--all-namespaces\t"));
    assert!(completed("list --output j").starts_with("json"));
    assert_eq!(completed("image publish im"), "image/\n:6\n");
    assert_eq!(completed("list nonsense "), ":4\n");
}
