//! Reviews at a steady rate, over TLS on loopback: how long the server takes for one, and what it needs.
//!
//! Prints one line of JSON. `cargo xtask bench --only webhook` runs it on release builds.

#[allow(dead_code)]
#[path = "../tests/support/program.rs"]
mod program;

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    thread,
    time::{Duration, Instant},
};

use peerpods_testkit::tls_stream;
use program::Program;
use serde_json::{Value, json};

const REVIEWS_PER_SECOND: u32 = 1000;
/// API servers keep a few connections each.
const CONNECTIONS: u32 = 8;
/// Long enough for a hundred reviews beyond the 99th percentile.
const SECONDS: u32 = 10;

/// A pod of three containers as controllers make them, with what a review adds: about 6 KiB.
fn review() -> String {
    let environment: Vec<Value> = (0..20)
        .map(|number| json!({"name": format!("SETTING_{number}"), "value": "a value of some length for this setting"}))
        .collect();
    let containers: Vec<Value> = (0..3)
        .map(|number| {
            json!({
                "name": format!("container-{number}"), "image": "registry.example.com/team/application:1.2.3",
                "env": environment, "terminationMessagePath": "/dev/termination-log", "imagePullPolicy": "IfNotPresent",
                "resources": {"limits": {"cpu": "750m", "memory": "384Mi"}, "requests": {"cpu": "250m", "memory": "128Mi"}},
                "volumeMounts": [{"name": "token", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}],
            })
        })
        .collect();
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
        "uid": "705ab4f5-6393-11e8-b7cc-42010a800002", "kind": {"group": "", "version": "v1", "kind": "Pod"},
        "operation": "CREATE", "namespace": "default", "userInfo": {"username": "system:serviceaccount:kube-system:replicaset"},
        "object": {"metadata": {"generateName": "web-5d4f8c7b9-", "labels": {"app": "web"}},
                   "spec": {"runtimeClassName": "kata-remote", "containers": containers}},
    }})
    .to_string()
}

/// Sends one connection's share, and tells how long each answer took.
fn send(program: &Program, body: &str, start: Instant, first: Duration) -> Vec<Duration> {
    let stream = tls_stream(program.address, &program.file("ca.crt")).expect("the webhook takes connections");
    let mut stream = BufReader::new(stream);
    let request = format!(
        "POST /mutate-v1-pod HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let interval = Duration::from_secs(1) * CONNECTIONS / REVIEWS_PER_SECOND;
    let share = REVIEWS_PER_SECOND * SECONDS / CONNECTIONS;
    let mut took = Vec::new();
    for number in 0..share {
        let due = start + first + interval * number;
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let sent = Instant::now();
        stream
            .get_mut()
            .write_all(request.as_bytes())
            .expect("the webhook reads");
        receive(&mut stream);
        took.push(sent.elapsed());
    }
    took
}

/// Reads one response, which has to be of success.
fn receive(stream: &mut impl BufRead) {
    let (mut line, mut length) = (String::new(), 0);
    stream.read_line(&mut line).expect("the webhook answers");
    assert!(line.contains("200"), "{line}");
    while line != "\r\n" {
        line.clear();
        stream.read_line(&mut line).expect("the webhook answers");
        if let Some(text) = line.to_lowercase().strip_prefix("content-length:") {
            length = text.trim().parse().expect("a length is a number");
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).expect("the webhook answers");
}

fn percentile(sorted: &[Duration], percent: usize) -> f64 {
    let place = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted[place].as_secs_f64() * 1000.0
}

/// The least bound of the histogram below which 99 of 100 reviews are, in milliseconds.
fn inside(metrics: &str) -> f64 {
    let of = |prefix: &str| {
        metrics
            .lines()
            .filter_map(move |line| line.strip_prefix(prefix))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let number = |text: &str| text.trim().parse::<f64>().expect("a metric is a number");
    let all = number(&of("peerpods_webhook_review_duration_seconds_count")[0]);
    let buckets = of("peerpods_webhook_review_duration_seconds_bucket{le=\"");
    let found = buckets.iter().find_map(|line| {
        let (bound, count) = line.split_once("\"}").expect("a bucket has a bound");
        (number(count) >= all * 0.99).then(|| bound.parse::<f64>().unwrap_or(f64::INFINITY))
    });
    found.expect("the last bucket has all") * 1000.0
}

fn main() {
    let program = Program::start();
    let body = review();
    let start = Instant::now();
    let mut took: Vec<Duration> = thread::scope(|scope| {
        let (program, body) = (&program, &body);
        let senders: Vec<_> = (0..CONNECTIONS)
            .map(|number| {
                let first = Duration::from_secs(1) * number / REVIEWS_PER_SECOND;
                scope.spawn(move || send(program, body, start, first))
            })
            .collect();
        senders
            .into_iter()
            .flat_map(|sender| sender.join().expect("a sender does not panic"))
            .collect()
    });
    let elapsed = start.elapsed().as_secs_f64();
    took.sort_unstable();
    let process = format!("/proc/{}", program.id());
    let status = fs::read_to_string(format!("{process}/status")).expect("the webhook runs");
    let resident = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .expect("the kernel tells the memory");
    let resident: f64 = resident
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .expect("memory is a number");
    let statistics = fs::read_to_string(format!("{process}/stat")).expect("the webhook runs");
    let times: Vec<&str> = statistics
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    // User and system time, in hundredths of a second.
    let ticks: f64 = [11, 12]
        .iter()
        .map(|place| times[*place].parse::<f64>().expect("times are numbers"))
        .sum();
    println!(
        "{}",
        json!({
            "reviewsPerSecond": took.len() as f64 / elapsed,
            "insideP99Milliseconds": inside(&program.get("/metrics").expect("metrics are served")),
            "roundTripMedianMilliseconds": percentile(&took, 50),
            "roundTripP99Milliseconds": percentile(&took, 99),
            "residentMebibytes": resident / 1024.0,
            "corePercent": ticks / elapsed,
        })
    );
}
