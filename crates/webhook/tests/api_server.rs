//! The table of admission cases, and the webhook's absence, with the program behind a real kube-apiserver.
//!
//! `PEERPODS_TEST_KUBERNETES` names the folder with the server; without it these tests say so and pass.

#[allow(dead_code)]
#[path = "support/cluster.rs"]
mod cluster;
#[allow(dead_code)]
#[path = "support/program.rs"]
mod program;
#[allow(dead_code)]
mod support;

use cluster::{Cluster, pod_of};
use peerpods_api::admission::{Backend, PodAdmission, WEBHOOK_PATH, policy, webhook_configuration};
use peerpods_testkit::ApiServer;
use program::Program;
use serde_json::json;

fn register(server: &ApiServer, program: &Program) {
    let backend = Backend::Url(format!("https://{}{WEBHOOK_PATH}", program.address));
    let admission = PodAdmission::default();
    let object = webhook_configuration(&admission, &backend, Some(&program.authority()));
    server.apply(&json!(object)).text();
}

#[test]
fn every_case_of_the_table() {
    let Some(server) = ApiServer::start() else { return };
    let cluster = Cluster::prepare(&server);
    let program = Program::start();
    register(&server, &program);
    cluster.wait_until_changed();
    cluster.check_table();
    cluster.check_large_pod();
}

#[test]
fn every_other_pod_is_created_while_the_webhook_is_down() {
    let Some(server) = ApiServer::start() else { return };
    let cluster = Cluster::prepare(&server);
    let mut program = Program::start();
    register(&server, &program);
    cluster.wait_until_changed();
    program.kill();
    for class in [None, Some("other")] {
        cluster
            .create("default", &pod_of(class))
            .expect("other pods are created");
    }
    cluster
        .create("kube-system", &pod_of(Some("kata-remote")))
        .expect("excluded namespaces go on");
    let refused = cluster
        .create("default", &pod_of(Some("kata-remote")))
        .expect_err("nobody changes it");
    assert!(
        refused.contains("failed calling webhook \"mwebhook.peerpods.io\""),
        "{refused}"
    );
    program.start_again();
    cluster
        .create("default", &pod_of(Some("kata-remote")))
        .expect("it is changed again");
}

#[test]
fn every_case_of_the_table_by_the_policy() {
    let Some(server) = ApiServer::start() else { return };
    let cluster = Cluster::prepare(&server);
    let (policy, binding) = policy(&PodAdmission::default());
    server.apply(&json!(policy)).text();
    server.apply(&json!(binding)).text();
    cluster.wait_until_changed();
    cluster.check_table();
    cluster.check_large_pod();
}
