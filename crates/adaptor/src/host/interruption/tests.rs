//! With a real API server and no more rights than the chart gives, and with one that is away.

use std::{path::PathBuf, time::Duration};

use peerpods_testkit::{ApiServer, wait_for};
use serde_json::{Value, json};

use super::{super::tests::Lab, Announcement};
use crate::{kubernetes::Access, sandbox::Reason};

/// What an administrator applies.
const MANIFESTS: &str = include_str!("../../../../../deploy/manifests/peerpods.yaml");
const ACCOUNT: &str = "system:serviceaccount:openshift-sandboxed-containers-operator:cloud-api-adaptor";
const LIMIT: Duration = Duration::from_secs(60);

/// The adaptor's way to the API server, with the roles of its account and no others.
fn as_adaptor(server: &ApiServer) -> Access {
    let rights = MANIFESTS.split("\n---\n").filter(|object| {
        object.contains("\nkind: ClusterRole") && object.contains("\n  name: cloud-api-adaptor\n")
    });
    let rights: Vec<&str> = rights.collect();
    assert_eq!(rights.len(), 2, "a role and its binding");
    server
        .kubectl_with_input(&["apply", "-f", "-"], &rights.join("\n---\n"))
        .text();
    let path: PathBuf = server.kubeconfig().with_file_name("adaptor");
    let mut config: Value = serde_json::from_slice(&std::fs::read(server.kubeconfig()).unwrap()).unwrap();
    let user = &mut config["users"][0]["user"];
    user["as"] = json!(ACCOUNT);
    user["as-groups"] = json!(["system:serviceaccounts", "system:authenticated"]);
    std::fs::write(&path, config.to_string()).unwrap();
    Access::Kubeconfig(path)
}

#[tokio::test]
async fn a_pod_is_told_once_that_its_vm_is_taken_back() {
    let Some(server) = ApiServer::shared() else { return };
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "namespace": "default"},
        "spec": {"containers": [{"name": "main", "image": "none"}]},
    });
    server.create(&pod).unwrap();
    let lab = Lab::with(as_adaptor(server));
    let instance = lab.launch().await.unwrap();
    lab.provider.interrupt(&instance.id, "The cloud needs it back");

    let shown = tokio::task::spawn_blocking(|| {
        wait_for("the pod has the event", LIMIT, || {
            let described = server.kubectl(&["describe", "pod", "web"]).text();
            let has = |words: &str| described.contains(words);
            let told = "The cloud needs it back. The pod ends with it";
            if has("Warning") && has("SpotInterruption") && has(told) {
                return Ok(());
            }
            Err(described)
        });
    });
    let announcement = Announcement::default();
    tokio::select! {
        never = lab.node.pass_interruption_on(&lab.plan, &instance, &announcement) => match never {},
        shown = shown => shown.unwrap(),
    }
    // As after a restart of the adaptor.
    lab.node
        .tell_pod(&lab.plan, &instance, "The cloud needs it back")
        .await;
    let events = server.kubectl(&["get", "events", "--output", "name"]).text();
    assert_eq!(events.lines().count(), 1, "{events}");
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_is_away_is_given_up_on() {
    let away = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = folder.path().join("kubeconfig");
    let text = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": format!("http://{away}")}}],
        "users": [{"name": "c", "user": {}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "c"}}],
    });
    std::fs::write(&kubeconfig, text.to_string()).unwrap();
    let lab = Lab::with(Access::Kubeconfig(kubeconfig));
    let instance = lab.launch().await.unwrap();
    let start = tokio::time::Instant::now();
    lab.node.tell_pod(&lab.plan, &instance, "words").await;
    assert!(
        start.elapsed() < Duration::from_secs(120),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test]
async fn the_end_of_a_vm_that_was_taken_back_has_the_providers_words() {
    let lab = Lab::with(Access::None);
    lab.provider.answer_on_loopback();
    let instance = lab.launch().await.unwrap();
    lab.provider.interrupt(&instance.id, "The cloud needs it back");
    lab.provider.kill(&instance.id);
    let words = "The cloud needs it back; the instance was killed from outside";
    let ended = lab.node.watch(&lab.plan, &instance).await;
    assert_eq!(ended, Reason::Ended(words.to_owned()));
    let told = lab.node.directories.path(&lab.plan.sandbox).join("announced");
    assert_eq!(std::fs::read_to_string(told).unwrap(), "The cloud needs it back");
    // Before its guest answers as well.
    let not_booted = lab.node.meet(&lab.plan, &instance).await.unwrap_err();
    assert_eq!(not_booted, Reason::NotBooted(words.to_owned()));
}
