//! The hypervisor service: what is asked of it out of order, twice, or of nobody.

use std::{collections::HashMap, time::Duration};

use ttrpc::Code;

use crate::{
    agent::code,
    hypervisor::{Hypervisor, annotations},
    node::wait_nothing_left,
    pod::{GO_START_DEADLINE, Pod},
};

on_node! {
    async fn a_sandbox_that_is_not_known_can_be_stopped_and_not_started() {
        let hypervisor = Hypervisor::connect().await;
        let unknown = "c".repeat(64);
        hypervisor.stop_vm(&unknown, None).await.unwrap();
        let refused = hypervisor.start_vm(&unknown, GO_START_DEADLINE).await;
        assert_eq!(code(refused), Code::NOT_FOUND);
    }
}

on_node! {
    async fn the_agents_path_is_one_that_a_go_shim_can_dial() {
        let pod = Pod::new("path");
        let path = pod.create_vm(&Hypervisor::connect().await).await.unwrap();
        // It splits at colons, and the kernel's addresses hold 107 bytes.
        assert!(path.starts_with('/') && !path.contains(':') && path.len() < 108, "{path}");
    }
}

on_node! {
    async fn a_create_whose_answer_was_lost_is_answered_alike() {
        let pod = Pod::new("twice");
        let first = pod.create_vm(&Hypervisor::connect().await).await.unwrap();
        let again = pod.create_vm(&Hypervisor::connect().await).await.unwrap();
        assert_eq!(first, again);
    }
}

on_node! {
    async fn a_sandbox_that_was_never_started_is_stopped_and_leaves_nothing() {
        let pod = Pod::new("unstarted");
        pod.create_vm(&Hypervisor::connect().await).await.unwrap();
        Hypervisor::connect().await.stop_vm(&pod.id, None).await.unwrap();
        wait_nothing_left(&pod.id);
        let refused = Hypervisor::connect().await.start_vm(&pod.id, GO_START_DEADLINE).await;
        assert_eq!(code(refused), Code::NOT_FOUND);
    }
}

on_node! {
    async fn a_vm_that_boots_can_be_stopped_and_its_start_is_told() {
        let pod = Pod::new("changed-mind");
        pod.create_vm(&Hypervisor::connect().await).await.unwrap();
        let id = pod.id.clone();
        let starting = tokio::spawn(async move {
            Hypervisor::connect().await.start_vm(&id, GO_START_DEADLINE).await
        });
        tokio::time::sleep(Duration::from_millis(500)).await;
        Hypervisor::connect().await.stop_vm(&pod.id, None).await.unwrap();
        assert_eq!(code(starting.await.unwrap()), Code::FAILED_PRECONDITION);
        wait_nothing_left(&pod.id);
    }
}

on_node! {
    async fn what_a_request_lacks_is_named() {
        let hypervisor = Hypervisor::connect().await;
        let pod = Pod::new("lacking");
        let without = |key: &str| {
            let mut left = annotations("lacking");
            left.insert(key.to_owned(), String::new());
            left
        };
        let create = |netns: &'static str, given: HashMap<String, String>| {
            let (hypervisor, id) = (&hypervisor, &pod.id);
            async move { hypervisor.create_vm(id, netns, given).await.unwrap_err().to_string() }
        };
        let name = "io.kubernetes.cri.sandbox-name";
        assert!(create("/run/netns/any", without(name)).await.contains(name));
        let namespace = "io.kubernetes.cri.sandbox-namespace";
        assert!(create("/run/netns/any", without(namespace)).await.contains(namespace));
        // A pod on the host's network.
        assert!(create("", annotations("lacking")).await.contains("networkNamespacePath"));
        assert!(create("/run/netns/none", annotations("lacking")).await.contains("/run/netns/none"));
    }
}
