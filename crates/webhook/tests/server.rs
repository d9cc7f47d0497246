//! The program alone: reviews and what is none, health, metrics, its certificate, its end.

#[allow(dead_code)]
#[path = "support/program.rs"]
mod program;

use std::{fs, time::Duration};

use peerpods_testkit::wait_for;
use program::Program;
use serde_json::{Value, json};

/// Files are looked at every 2 s.
const RELOAD_LIMIT: Duration = Duration::from_secs(30);

fn review(operation: &str, object: Value) -> Value {
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
        "uid": "1234", "kind": {"group": "", "version": "v1", "kind": "Pod"},
        "resource": {"group": "", "version": "v1", "resource": "pods"},
        "operation": operation, "namespace": "default", "object": object, "oldObject": null,
        "userInfo": {"username": "somebody"}, "dryRun": false, "options": null,
    }})
}

fn peer_pod() -> Value {
    json!({"metadata": {"generateName": "web-"}, "spec": {"runtimeClassName": "kata-remote",
           "containers": [{"name": "web", "resources": {"limits": {"cpu": "2"}}}]}})
}

fn respond(program: &Program, review: &Value) -> Value {
    let reply = program.post(review.to_string().as_bytes());
    assert_eq!(reply.status, 200, "{}", reply.body);
    let mut answer: Value = serde_json::from_str(&reply.body).expect("the answer is JSON");
    assert_eq!(
        (&answer["apiVersion"], &answer["kind"]),
        (&json!("admission.k8s.io/v1"), &json!("AdmissionReview"))
    );
    answer["response"].take()
}

#[test]
fn a_peer_pod_is_changed_and_the_log_names_it() {
    let program = Program::start();
    let response = respond(&program, &review("CREATE", peer_pod()));
    assert_eq!(
        (&response["uid"], &response["allowed"]),
        (&json!("1234"), &json!(true))
    );
    assert_eq!(response["patchType"], "JSONPatch");
    let log = program.log();
    assert!(
        log.contains(r#"changed namespace="default" pod="web-" review="1234""#),
        "{log}"
    );
    let metrics = program.get("/metrics").unwrap();
    assert!(
        metrics.contains(r#"peerpods_webhook_reviews_total{outcome="changed"} 1"#),
        "{metrics}"
    );
    assert!(
        metrics.contains("peerpods_webhook_review_duration_seconds_bucket"),
        "{metrics}"
    );
}

#[test]
fn updates_and_other_pods_are_allowed_as_they_are() {
    let program = Program::start();
    let mut sub_resource = review("CREATE", peer_pod());
    sub_resource["request"]["subResource"] = json!("binding");
    for review in [
        review("UPDATE", peer_pod()),
        review("DELETE", Value::Null),
        review("CREATE", json!({"spec": {"containers": [{"name": "web"}]}})),
        sub_resource,
    ] {
        assert_eq!(
            respond(&program, &review),
            json!({"uid": "1234", "allowed": true})
        );
    }
}

#[test]
fn what_is_no_review_gets_an_error_that_says_so() {
    let program = Program::start();
    let mut other_version = review("CREATE", peer_pod());
    other_version["apiVersion"] = json!("admission.k8s.io/v1beta1");
    let mut without = review("CREATE", peer_pod());
    without["request"].take();
    let mut without_id = review("CREATE", peer_pod());
    without_id["request"].as_object_mut().unwrap().remove("uid");
    let cut = review("CREATE", peer_pod()).to_string()[..200].to_owned();
    for (body, error) in [
        (String::new(), "the body is no AdmissionReview: EOF"),
        (
            "hello".to_owned(),
            "the body is no AdmissionReview: expected value at line 1 column 1",
        ),
        (
            "[]".to_owned(),
            "the body is no AdmissionReview: invalid length 0",
        ),
        (cut, "EOF while parsing"),
        (
            other_version.to_string(),
            r#"the body is "admission.k8s.io/v1beta1", "AdmissionReview", and not"#,
        ),
        (without.to_string(), "the AdmissionReview has no request"),
        (without_id.to_string(), "missing field `uid`"),
        ("[".repeat(100_000), "no AdmissionReview"),
    ] {
        let reply = program.post(body.as_bytes());
        assert_eq!(reply.status, 400, "{}", reply.body);
        assert!(reply.body.contains(error), "{}", reply.body);
    }
    respond(&program, &review("CREATE", peer_pod()));
}

#[test]
fn a_pod_that_cannot_be_read_is_refused_with_the_field() {
    let program = Program::start();
    let mut wrong_kind = review("CREATE", peer_pod());
    wrong_kind["request"]["kind"]["kind"] = json!("Node");
    for (review, error) in [
        (
            review("CREATE", json!({"spec": {"containers": "web"}})),
            "spec.containers: invalid type: string",
        ),
        (
            review(
                "CREATE",
                json!({"spec": {"runtimeClassName": "kata-remote",
                "containers": [{"resources": {"limits": {"cpu": true}}}]}}),
            ),
            "spec.containers[0].resources.limits.cpu: a quantity: a text or a number",
        ),
        (
            review("CREATE", json!({"metadata": {"annotations": {"a": 1}}})),
            "metadata.annotations.a: invalid type",
        ),
        (review("CREATE", Value::Null), "the review has no object"),
        (wrong_kind, r#"the review is of "" "v1" "Node", and not of a Pod"#),
    ] {
        let response = respond(&program, &review);
        assert_eq!(
            (&response["allowed"], &response["status"]["code"]),
            (&json!(false), &json!(400))
        );
        let message = response["status"]["message"].as_str().unwrap();
        assert!(message.contains(error), "{message}");
    }
}

#[test]
fn other_paths_methods_and_endless_bodies_are_refused() {
    let program = Program::start();
    let status = |what, body: &[u8]| program.send(what, body).unwrap().status;
    assert_eq!(status(("POST", "/"), b"{}"), 404);
    assert_eq!(status(("GET", "/mutate-v1-pod"), b""), 405);
    // The server ends the connection while the body is still being sent.
    let refused = program.send(("POST", "/mutate-v1-pod"), &vec![b' '; 9 << 20]);
    assert!(refused.map_or(true, |reply| reply.status == 413));
    respond(&program, &review("CREATE", peer_pod()));
}

#[test]
fn silent_connections_hinder_nobody() {
    let program = Program::start();
    let _silent: Vec<_> = (0..64)
        .map(|_| std::net::TcpStream::connect(program.address).unwrap())
        .collect();
    respond(&program, &review("CREATE", peer_pod()));
}

#[test]
fn a_new_certificate_is_used_without_a_restart_and_a_broken_one_is_not() {
    let program = Program::start();
    fs::write(program.file("tls.key"), "broken").unwrap();
    wait_for("the broken key is told", RELOAD_LIMIT, || {
        let log = program.log();
        let is_told = log.contains("the certificate stays as it was") && log.contains("tls.key");
        if is_told { Ok(()) } else { Err(log) }
    });
    respond(&program, &review("CREATE", peer_pod()));
    program.renew_certificate("second");
    wait_for("the new certificate is used", RELOAD_LIMIT, || {
        program.send(("GET", "/"), b"").map_err(|error| error.to_string())
    });
    let metrics = program.get("/metrics").unwrap();
    assert!(
        metrics.contains(r#"peerpods_webhook_certificates_total{usable="yes"} 1"#),
        "{metrics}"
    );
}

#[test]
fn it_leaves_in_order() {
    let mut program = Program::start();
    program.terminate();
    wait_for("it is no longer ready", RELOAD_LIMIT, || {
        match program.get("/readyz") {
            Ok(text) if text.contains("503") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    respond(&program, &review("CREATE", peer_pod()));
    assert!(program.wait().success(), "{}", program.log());
}

#[test]
fn a_certificate_that_is_not_there_is_named() {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_peerpods-webhook"));
    let output = command
        .args(["--tls-certificate", "/nowhere/tls.crt"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(
        said.contains("cannot use the certificate: cannot read /nowhere/tls.crt: No such file"),
        "{said}"
    );
}
