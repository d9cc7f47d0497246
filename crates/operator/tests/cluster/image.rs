//! The VM image in EC2, published by a Job. The Job's pod is played; what it runs is tested in `crates/cli`.

use peerpods_testkit::wait_for;
use serde_json::{Value, json};

use crate::lab::{LIMIT, Lab, NAMESPACE};

const JOB: &str = "peerpods-image-publisher";
const PUBLISHED: &str = "ImagePublished";

fn job(lab: &Lab) -> Value {
    wait_for("the Job is there", LIMIT, || {
        match lab.get(&["job", JOB, "--namespace", NAMESPACE]) {
            Value::Null => Err("no".to_owned()),
            job => Ok(job),
        }
    })
}

/// A pod of the Job, in this state.
fn create_pod(lab: &Lab, job: &Value) {
    let metadata = json!({
        "name": "publisher", "namespace": NAMESPACE, "labels": job["spec"]["template"]["metadata"]["labels"],
        "ownerReferences": [{
            "apiVersion": "batch/v1", "kind": "Job", "name": JOB, "uid": job["metadata"]["uid"], "controller": true,
        }],
    });
    let spec = json!({"containers": [{"name": "publish", "image": "a"}]});
    lab.create(&json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}))
        .unwrap();
}

fn set_pod(lab: &Lab, phase: &str, exit_code: u8, message: &str) {
    let end = json!({"terminated": {"exitCode": exit_code, "message": message}});
    let container = json!({
        "name": "publish", "image": "a", "imageID": "a", "ready": false, "restartCount": 0, "state": end,
    });
    let status = json!({"status": {"phase": phase, "containerStatuses": [container]}}).to_string();
    lab.kubectl(&[
        "patch",
        "pod",
        "publisher",
        "--namespace",
        NAMESPACE,
        "--subresource=status",
        "--type=merge",
        "--patch",
        &status,
    ]);
}

fn image(lab: &Lab) -> Value {
    lab.get(&["configmap", "peer-pods-cm", "--namespace", NAMESPACE])["data"]["PODVM_AMI_ID"].clone()
}

#[test]
fn without_an_image_ours_is_published_and_becomes_a_setting() {
    let Some(lab) = Lab::new() else { return };
    // There are no nodes: nothing is waited for but the image.
    lab.settings(json!({"CLOUD_PROVIDER": "aws", "AWS_REGION": "eu-central-1"}));
    let _operator = lab.start_operator("operator-1").lead();
    lab.create_kata_config("kata");
    lab.wait_condition("kata", PUBLISHED, "False", "Publishing");
    let job_there = job(&lab);
    let arguments = &job_there["spec"]["template"]["spec"]["containers"][0]["args"];
    assert_eq!(
        (&arguments[0], &arguments[1]),
        (&json!("image"), &json!("publish"))
    );

    create_pod(&lab, &job_there);
    set_pod(
        &lab,
        "Running",
        1,
        "error: cannot publish: not permitted to begin a snapshot",
    );
    let said = lab.wait_condition("kata", PUBLISHED, "False", "PublishingFailed");
    assert!(said.contains("not permitted to begin a snapshot"), "{said}");
    assert_eq!(image(&lab), Value::Null);
    let adaptor = [
        "daemonset",
        "peerpodconfig-ctrl-caa-daemon",
        "--namespace",
        NAMESPACE,
    ];
    assert_eq!(lab.get(&adaptor), Value::Null);

    set_pod(&lab, "Succeeded", 0, "ami-0123456789abcdef0");
    let said = lab.wait_condition("kata", PUBLISHED, "True", "Published");
    assert!(said.ends_with("ami-0123456789abcdef0"), "{said}");
    lab.wait_gone(&["job", JOB, "--namespace", NAMESPACE]);
    assert_eq!(image(&lab), "ami-0123456789abcdef0");
    wait_for("adaptors are started", LIMIT, || match lab.get(&adaptor) {
        Value::Null => Err("not yet".to_owned()),
        _ => Ok(()),
    });

    // What somebody names wins, also while ours is being published.
    lab.kubectl(&["delete", "pod", "publisher", "--namespace", NAMESPACE, "--force"]);
    lab.settings(json!({"CLOUD_PROVIDER": "aws", "AWS_REGION": "eu-central-1", "PODVM_AMI_ID": ""}));
    job(&lab);
    lab.settings(
        json!({"CLOUD_PROVIDER": "aws", "AWS_REGION": "eu-central-1", "PODVM_AMI_ID": "ami-theirs"}),
    );
    lab.wait_gone(&["job", JOB, "--namespace", NAMESPACE]);
    assert_eq!(image(&lab), "ami-theirs");
    // The Job goes with the KataConfig.
    lab.settings(json!({"CLOUD_PROVIDER": "aws", "PODVM_AMI_ID": ""}));
    job(&lab);
    lab.kubectl(&["delete", "kataconfig", "kata"]);
    lab.wait_gone(&["job", JOB, "--namespace", NAMESPACE]);
}
