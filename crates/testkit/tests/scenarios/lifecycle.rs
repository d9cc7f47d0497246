//! Deletion, grace periods and restart policies.

use std::time::{Duration, Instant};

use peerpods_testkit::{PodBuilder, container, scenario};
use serde_json::json;

scenario!(
    deletion_lets_the_container_end_in_its_grace_period,
    bed,
    runtime,
    {
        let script =
            "trap 'echo leaving; sleep 1; echo left; exit 0' TERM; echo ready; while :; do sleep 0.1; done";
        let pod = PodBuilder::new("grace", runtime, vec![container("main", script)])
            .spec("terminationGracePeriodSeconds", json!(30))
            .start(bed);
        let mut follow = bed.kubectl_in_background(&["logs", "--follow", &pod.name]);
        let start = Instant::now();
        pod.delete();
        assert!(
            start.elapsed() < Duration::from_secs(25),
            "the grace period was waited out"
        );
        let mut text = String::new();
        std::io::Read::read_to_string(&mut follow.stdout.take().expect("a pipe"), &mut text).unwrap();
        follow.wait().unwrap();
        assert_eq!(text, "ready\nleaving\nleft\n");
    }
);

scenario!(
    a_container_that_ignores_the_end_is_killed_after_its_grace_period,
    bed,
    runtime,
    {
        let script = "trap '' TERM; while :; do sleep 0.1; done";
        let pod = PodBuilder::new("stubborn", runtime, vec![container("main", script)]).start(bed);
        let start = Instant::now();
        pod.delete();
        assert!(
            start.elapsed() >= Duration::from_secs(2),
            "killed before its grace period was over"
        );
    }
);

scenario!(a_container_is_restarted_as_its_policy_says, bed, runtime, {
    let script = "echo run; sleep 1; exit 3";
    let failing = PodBuilder::new("restart", runtime, vec![container("main", script)])
        .spec("restartPolicy", json!("OnFailure"))
        .create(bed);
    let status = failing.wait_status("the container was restarted", |status| {
        status["containerStatuses"][0]["restartCount"]
            .as_u64()
            .is_some_and(|count| count >= 1)
    });
    let last = &status["containerStatuses"][0]["lastState"]["terminated"];
    assert_eq!(
        (last["exitCode"].as_i64(), last["reason"].as_str()),
        (Some(3), Some("Error"))
    );
});

scenario!(a_container_that_succeeded_is_left_alone, bed, runtime, {
    let done = PodBuilder::new("done", runtime, vec![container("main", "echo done")])
        .spec("restartPolicy", json!("OnFailure"))
        .create(bed);
    done.wait_phase("Succeeded");
    let status = done.container_status("main");
    assert_eq!(status["state"]["terminated"]["reason"], "Completed");
    assert_eq!(done.logs(&[]).text(), "done");
});
