//! `kubectl attach`, `run -i` and `cp`, and streams that somebody does not read or close.

use std::{
    io::Write,
    process::{Command, Stdio},
};

use peerpods_testkit::{Bed, PodBuilder, container, scenario};
use serde_json::json;

scenario!(attach_takes_input_and_gives_output, bed, runtime, {
    let mut main = container(
        "main",
        "while read line; do echo heard $line; done; echo end of input",
    );
    main["stdin"] = json!(true);
    main["stdinOnce"] = json!(true);
    let pod = PodBuilder::new("attach", runtime, vec![main])
        .spec("restartPolicy", json!("Never"))
        .start(bed);
    let mut attached = Command::new(bed.program("kubectl"))
        .args(["attach", "--stdin", "--quiet", &pod.name])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = attached.stdin.take().unwrap();
    input.write_all(b"one\ntwo\n").unwrap();
    drop(input);
    pod.wait_phase("Succeeded");
    let output = attached.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        text.contains("heard two"),
        "{text} {}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(pod.logs(&[]).text(), "heard one\nheard two\nend of input");
});

scenario!(files_are_copied_both_ways, bed, runtime, {
    let pod = PodBuilder::new("copy", runtime, vec![container("main", "sleep 1000")]).start(bed);
    let folder = std::env::temp_dir().join(format!(
        "peerpods-copy-{}-{}",
        runtime.suffix(),
        std::process::id()
    ));
    std::fs::create_dir_all(&folder).unwrap();
    let (there, back) = (folder.join("there"), folder.join("back"));
    let content: Vec<u8> = (0..5_000_000_u32)
        .flat_map(|number| number.to_le_bytes())
        .collect();
    std::fs::write(&there, &content).unwrap();
    let (there, back) = (there.display().to_string(), back.display().to_string());
    bed.kubectl(&["cp", &there, &format!("{}:/tmp/file", pod.name)])
        .text();
    assert_eq!(pod.shell("stat -c %s /tmp/file"), "20000000");
    bed.kubectl(&["cp", &format!("{}:/tmp/file", pod.name), &back])
        .text();
    assert!(std::fs::read(&back).unwrap() == content, "the copy is another");
    std::fs::remove_dir_all(&folder).unwrap();
});

/// A kubectl whose output nobody reads and that gets `input`; ended with the test.
struct Stalled(std::process::Child);

impl Stalled {
    fn start(bed: &Bed, arguments: &[&str], input: Vec<u8>) -> Self {
        let mut child = Command::new(bed.program("kubectl"))
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // It blocks as soon as nobody takes the input, and ends with the child.
        std::thread::spawn(move || stdin.write_all(&input));
        Self(child)
    }
}

impl Drop for Stalled {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

scenario!(a_stream_that_nobody_serves_hinders_no_other, bed, runtime, {
    let script = "yes a line of output that nobody may read | head -n 200000; sleep 1000";
    let pod = PodBuilder::new("stalled", runtime, vec![container("main", script)]).start(bed);
    let input = b"a line that nobody reads\n".repeat(40_000);
    let _stalled = [
        Stalled::start(bed, &["logs", "--follow", &pod.name], Vec::new()),
        Stalled::start(bed, &["exec", "-i", &pod.name, "--", "sleep", "1000"], input),
        Stalled::start(bed, &["exec", &pod.name, "--", "yes"], Vec::new()),
    ];
    for _ in 0..3 {
        assert_eq!(pod.shell("echo alive"), "alive");
    }
    // Its input is closed before it starts.
    assert_eq!(pod.exec_with_input(&["cat"], "").code, 0);
    pod.delete();
});

scenario!(execs_in_a_row_and_at_once, bed, runtime, {
    let pod = PodBuilder::new("execs", runtime, vec![container("main", "sleep 1000")]).start(bed);
    let (program, name) = (bed.program("kubectl"), &pod.name);
    let script = format!(
        "for i in $(seq 20); do {program} exec {name} -- echo $i & done | sort -n | tr '\\n' ' '; wait"
    );
    let output = Command::new("bash").args(["-c", &script]).output().unwrap();
    let expected: String = (1..=20).map(|number| format!("{number} ")).collect();
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
    let left = pod.shell("ps | wc -l");
    assert!(left.parse::<usize>().unwrap() < 8, "processes are left: {left}");
});
