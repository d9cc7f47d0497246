//! `kubectl logs`.

use std::io::{BufRead, BufReader};

use peerpods_testkit::{PodBuilder, container, scenario};

scenario!(logs_hold_every_line_of_both_streams, bed, runtime, {
    let script = "for i in $(seq 1 2000); do echo line $i; done; echo to stderr >&2; sleep 1000";
    let pod = PodBuilder::new("logs", runtime, vec![container("main", script)]).start(bed);
    peerpods_testkit::wait_for(
        "all lines are in the log",
        std::time::Duration::from_secs(20),
        || {
            let text = pod.logs(&[]).text();
            let numbers: Vec<_> = text.lines().filter(|line| line.starts_with("line ")).collect();
            let complete = numbers.len() == 2000 && text.contains("to stderr");
            if complete {
                Ok(())
            } else {
                Err(format!("{} lines", numbers.len()))
            }
        },
    );
    let text = pod.logs(&[]).text();
    let numbers = text
        .lines()
        .filter_map(|line| line.strip_prefix("line ")?.parse::<u32>().ok());
    assert!(numbers.eq(1..=2000), "the lines are not in order");
});

scenario!(logs_follow_a_running_container_to_its_end, bed, runtime, {
    let script = "echo one; until [ -e /go ]; do sleep 0.1; done; echo two";
    let pod = PodBuilder::new("follow", runtime, vec![container("main", script)])
        .spec("restartPolicy", serde_json::json!("Never"))
        .start(bed);
    let mut follow = bed.kubectl_in_background(&["logs", "--follow", &pod.name]);
    let mut lines = BufReader::new(follow.stdout.take().expect("a pipe")).lines();
    assert_eq!(lines.next().expect("a first line").unwrap(), "one");
    pod.exec(&["touch", "/go"]).text();
    assert_eq!(lines.next().expect("a second line").unwrap(), "two");
    assert!(
        lines.next().is_none(),
        "the log goes on after the container's end"
    );
    assert!(follow.wait().unwrap().success());
    pod.wait_phase("Succeeded");
});
