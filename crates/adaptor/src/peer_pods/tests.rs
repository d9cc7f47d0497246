//! With an API server that is no help: what is waited for, and what is not forgotten. With one that is: the scenarios.

use std::{
    net::{SocketAddr, TcpListener},
    path::Path,
    time::Instant,
};

use super::*;
use crate::{kubernetes::Access, sandbox::example};

/// More than a busy machine needs beside the waits that are meant.
const SLACK: Duration = Duration::from_secs(2);

fn peer_pods(folder: &Path, server: SocketAddr) -> PeerPods {
    let kubeconfig = folder.join("kubeconfig");
    let text = serde_json::json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": format!("http://{server}")}}],
        "users": [{"name": "c", "user": {}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "c"}}],
    });
    std::fs::write(&kubeconfig, text.to_string()).unwrap();
    let cluster = Cluster::new(Access::Kubeconfig(kubeconfig));
    let journal = Journal::open(&folder.join("journal")).unwrap();
    PeerPods::new(cluster, journal, "qemu")
}

fn known() -> Plan {
    let mut plan = example("pod-1", 555_000);
    plan.pod.pod_uid = Some("u-1".to_owned());
    plan
}

#[tokio::test]
async fn a_launch_waits_only_briefly_for_an_api_server_that_is_silent() {
    let folder = tempfile::tempdir().unwrap();
    // It takes connections and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let peer_pods = peer_pods(folder.path(), silent.local_addr().unwrap());
    let start = Instant::now();
    peer_pods.announce(&known()).await;
    let waited = start.elapsed();
    assert!(
        waited >= ANNOUNCE_LIMIT && waited < ANNOUNCE_LIMIT + SLACK,
        "{waited:?}"
    );
}

#[tokio::test]
async fn a_launch_does_not_wait_for_an_api_server_that_is_away() {
    let folder = tempfile::tempdir().unwrap();
    let away = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let peer_pods = peer_pods(folder.path(), away);
    let start = Instant::now();
    peer_pods.announce(&known()).await;
    assert!(start.elapsed() < SLACK, "{:?}", start.elapsed());
}

#[tokio::test]
async fn an_object_that_cannot_be_let_go_now_is_not_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let away = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let plan = known();
    let first = peer_pods(folder.path(), away);
    first.announce(&plan).await;
    first.release(&plan).await.unwrap();
    // Asked twice, as after a crash before the sandbox's record went.
    first.release(&plan).await.unwrap();
    assert!(first.publishers().is_empty());
    drop(first);
    let next = peer_pods(folder.path(), away);
    assert_eq!(next.journal.releases().unwrap(), [ObjectKey::of(&plan)]);
}
