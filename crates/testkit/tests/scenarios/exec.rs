//! `kubectl exec`.

use peerpods_testkit::{PodBuilder, container, scenario};

scenario!(exec_passes_input_output_and_exit_code, bed, runtime, {
    let pod = PodBuilder::new("exec", runtime, vec![container("main", "sleep 1000")]).start(bed);
    let output = pod.exec(&["sh", "-c", "echo out; echo err >&2; exit 7"]);
    assert_eq!((output.stdout.as_str(), output.code), ("out\n", 7));
    assert!(output.stderr.starts_with("err\n"), "{}", output.stderr);
    let input = "a line of text\n".repeat(10_000);
    let counted = pod.exec_with_input(&["wc", "-c"], &input);
    assert_eq!(counted.text().trim(), "150000");
    let missing = pod.exec(&["no-such-program"]);
    assert_ne!(missing.code, 0);
    assert!(missing.stderr.contains("no-such-program"), "{}", missing.stderr);
});

scenario!(
    exec_that_ignores_its_input_does_not_block_another,
    bed,
    runtime,
    {
        let pod = PodBuilder::new("stdin", runtime, vec![container("main", "sleep 1000")]).start(bed);
        let (program, name) = (bed.program("kubectl"), &pod.name);
        let script = format!(
            "yes | head -c 1000000 | {program} exec -i {name} -- sleep 1000 & \
         blocked=$!; for i in 1 2 3; do {program} exec {name} -- echo alive; done; kill $blocked"
        );
        let output = std::process::Command::new("bash")
            .args(["-c", &script])
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "alive\nalive\nalive\n");
    }
);

scenario!(exec_gives_a_terminal_with_the_size_of_the_window, bed, runtime, {
    let pod = PodBuilder::new("tty", runtime, vec![container("main", "sleep 1000")]).start(bed);
    let inner = format!(
        "stty rows 33 cols 77; {} exec -it {} -- sh -c 'tty; until stty size | grep -q 77; do sleep 0.1; done; stty size; exit 3'",
        bed.program("kubectl"),
        pod.name
    );
    let output = std::process::Command::new("script")
        .args(["--quiet", "--return", "--command", &inner, "/dev/null"])
        .stdin(std::process::Stdio::piped())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("/dev/pts/"), "{text}");
    assert!(text.contains("33 77"), "{text}");
    assert_eq!(output.status.code(), Some(3), "{text}");
});
