//! Processes as stock shims see them: who waits, what is not known, what a signal does.

use std::time::{Duration, Instant};

use peerpods_proto::agent as api;
use ttrpc::Code;

use crate::{
    agent::{Agent, KILL, Process, TERM, code, soon},
    container::{exec, workload},
    pod::Pod,
};

/// An answer that does not wait for a process; a busy machine takes its time.
const AT_ONCE: Duration = Duration::from_secs(5);

on_node! {
    async fn every_waiter_is_told_the_same_end_by_whichever_name() {
        let (pod, agent) = Pod::start("waiters").await;
        let container = run(&pod, &agent, 'a', "read line; exit 9").await;
        let init = Process { container: &container, exec: "" };
        let waiters: Vec<_> = ["", &container, ""]
            .map(|exec| {
                let (agent, container, exec) = (agent.clone(), container.clone(), exec.to_owned());
                tokio::spawn(async move { agent.wait(Process { container: &container, exec: &exec }).await })
            })
            .into();
        agent.write(init, "now\n").await.unwrap();
        for waiter in waiters {
            assert_eq!(waiter.await.unwrap().unwrap(), 9);
        }
        // A shim that lost the answer asks again: it is there until the container is removed.
        let again = tokio::time::timeout(AT_ONCE, agent.wait(init)).await.expect("it is answered at once");
        assert_eq!(again.unwrap(), 9);
        agent.remove_container(&container).await.unwrap();
        assert_eq!(code(agent.wait(init).await), Code::INVALID_ARGUMENT);
    }
}

on_node! {
    async fn what_is_not_known_is_not_found_as_process_and_malformed_as_container() {
        let (pod, agent) = Pod::start("unknown").await;
        let container = run(&pod, &agent, 'a', "sleep 1000").await;
        let process = Process { container: &container, exec: "8e2ffe8d-1f0a-4b0c-9a9e-0d6f4a7c1e55" };
        assert_eq!(code(agent.wait(process).await), Code::NOT_FOUND);
        assert_eq!(code(agent.signal(process, KILL).await), Code::NOT_FOUND);
        let elsewhere = Process { container: &"f".repeat(64), exec: "" };
        assert_eq!(code(agent.wait(elsewhere).await), Code::INVALID_ARGUMENT);
        assert_eq!(code(agent.signal(elsewhere, KILL).await), Code::INVALID_ARGUMENT);
        assert_eq!(code(agent.start_container(elsewhere.container).await), Code::INVALID_ARGUMENT);
        // An id is free again once its container is removed, and not before.
        let again = workload(&pod, &container, "", "true", &[]);
        assert_eq!(code(agent.create_container(&again).await), Code::ALREADY_EXISTS);
        agent.remove_container(&container).await.unwrap();
        agent.create_container(&again).await.unwrap();
    }
}

on_node! {
    async fn signals_end_processes_as_the_shims_expect() {
        let (pod, agent) = Pod::start("signals").await;
        // The first process of a namespace would ignore it.
        let deaf = run(&pod, &agent, 'a', "sleep 1000").await;
        let init = Process { container: &deaf, exec: "" };
        agent.signal(init, TERM).await.unwrap();
        assert_eq!(ends(&agent, init).await, 128 + 9);

        let script = "trap 'echo handled; exit 6' TERM; echo ready; while true; do sleep 0.1; done";
        let listening = run(&pod, &agent, 'b', script).await;
        let init = Process { container: &listening, exec: "" };
        let request = api::ReadStreamRequest { container_id: listening.clone(), len: 64, ..Default::default() };
        let ready = agent.service.read_stdout(soon(), &request).await.unwrap();
        assert_eq!(ready.data, b"ready\n");
        agent.signal(init, TERM).await.unwrap();
        assert_eq!((agent.stdout(init).await.as_str(), ends(&agent, init).await), ("handled\n", 6));
        // "All" of a container that has ended: nothing is left to kill, which is a success.
        agent.signal(init, KILL).await.unwrap();

        let many = run(&pod, &agent, 'c', "sleep 1000 & sleep 1000 & wait").await;
        let init = Process { container: &many, exec: "" };
        agent.signal(init, KILL).await.unwrap();
        assert_eq!(ends(&agent, init).await, 128 + 9);
    }
}

on_node! {
    async fn a_process_that_joins_has_what_the_shim_left_out_from_its_container() {
        let (pod, agent) = Pod::start("joining").await;
        let container = run(&pod, &agent, 'a', "sleep 1000").await;
        // The longest id that containerd takes, and one that only a shim of another making would choose.
        for id in ["e".repeat(76), "any text: even/this".to_owned()] {
            let process = Process { container: &container, exec: &id };
            let request = api::ExecProcessRequest {
                container_id: container.clone(),
                exec_id: id.clone(),
                process: protobuf::MessageField::some(exec("grep -h Cap /proc/1/status /proc/self/status", false)),
                ..Default::default()
            };
            agent.service.exec_process(soon(), &request).await.unwrap();
            let output = agent.stdout(process).await;
            let lines: Vec<_> = output.lines().collect();
            assert_eq!(lines.len(), 10, "{output}");
            assert_eq!(lines[..5], lines[5..], "{output}");
            assert_eq!(agent.wait(process).await.unwrap(), 0);
        }
    }
}

/// A container whose first process runs a script.
async fn run(pod: &Pod, agent: &Agent, letter: char, script: &str) -> String {
    let id = letter.to_string().repeat(64);
    agent
        .create_container(&workload(pod, &id, "", script, &[]))
        .await
        .unwrap();
    agent.start_container(&id).await.unwrap();
    id
}

/// Waits for an end that is near.
async fn ends(agent: &Agent, process: Process<'_>) -> i32 {
    let start = Instant::now();
    let status = agent.wait(process).await.unwrap();
    assert!(start.elapsed() < AT_ONCE, "it took {:?}", start.elapsed());
    status
}
