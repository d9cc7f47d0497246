//! How often a container's figures are asked of its machine.
#![allow(clippy::unwrap_used)]

mod support;

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use containerd_shim_protos::api::StatsRequest;
use support::{
    Node, PATIENCE,
    pod::Pod,
    stranger::{Answer, is_waiting},
};
use ttrpc::context::with_duration;

/// A pod whose agent answers a wait for other figures so; and how often it is asked for them.
async fn pod(change: impl Fn() -> Answer + Send + Sync + 'static) -> (Pod, Arc<AtomicU32>) {
    let asked = Arc::new(AtomicU32::new(0));
    let counted = asked.clone();
    let node = Node::new().await;
    node.let_dial_stranger(Arc::new(move |method, _, _| match method {
        "StatsContainer" => {
            counted.fetch_add(1, Ordering::Relaxed);
            Answer::Empty
        }
        "AwaitChange" => change(),
        method if is_waiting(method) => Answer::Silence,
        _ => Answer::Empty,
    }))
    .await;
    let pod = Pod::running_on(node).await;
    pod.silent_container().await;
    (pod, asked)
}

async fn ask(pod: &Pod, times: u32) {
    let request = StatsRequest {
        id: "app".into(),
        ..Default::default()
    };
    for _ in 0..times {
        pod.task.stats(with_duration(PATIENCE), &request).await.unwrap();
    }
}

#[tokio::test]
async fn a_container_that_rests_is_asked_for_twice_until_its_agent_tells_of_a_change() {
    let (pod, asked) = pod(|| Answer::Silence).await;
    ask(&pod, 10).await;
    assert_eq!(asked.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn a_container_that_works_is_asked_for_each_time() {
    // Each answer is preceded by that to a wait for it.
    let (pod, asked) = pod(|| Answer::Empty).await;
    ask(&pod, 2).await;
    let before = asked.load(Ordering::Relaxed);
    let deadline = std::time::Instant::now() + PATIENCE;
    while asked.load(Ordering::Relaxed) < before + 5 {
        assert!(std::time::Instant::now() < deadline, "it is not asked again");
        ask(&pod, 1).await;
    }
}

#[tokio::test]
async fn an_agent_that_does_not_tell_of_changes_is_asked_each_time() {
    let waits = Arc::new(AtomicU32::new(0));
    let counted = waits.clone();
    let (pod, asked) = pod(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        Answer::Unknown
    })
    .await;
    ask(&pod, 3).await;
    let deadline = std::time::Instant::now() + PATIENCE;
    while asked.load(Ordering::Relaxed) < 10 {
        assert!(std::time::Instant::now() < deadline, "it is not asked");
        ask(&pod, 1).await;
    }
    assert_eq!(waits.load(Ordering::Relaxed), 1, "it said so once");
}
