//! The requests beside the life of a container: what a shim needs works, and what it can do without is refused by name.

use peerpods_proto::{agent as api, oci, types};
use protobuf::MessageField;
use ttrpc::Code;

use crate::{
    agent::{Agent, Process, code, soon},
    container::{exec, workload},
    pod::Pod,
};

on_node! {
    async fn a_running_container_is_measured_changed_and_held() {
        let (pod, agent) = Pod::start("changed").await;
        let container = "a".repeat(64);
        let script = "while read line; do cat /sys/fs/cgroup/memory.max; done";
        agent.create_container(&workload(&pod, &container, "", script, &[])).await.unwrap();
        agent.start_container(&container).await.unwrap();

        let memory = oci::LinuxMemory { Limit: 64 << 20, ..Default::default() };
        let resources = oci::LinuxResources { Memory: MessageField::some(memory), ..Default::default() };
        let request = api::UpdateContainerRequest {
            container_id: container.clone(),
            resources: MessageField::some(resources),
            ..Default::default()
        };
        agent.service.update_container(soon(), &request).await.unwrap();
        let request = api::StatsContainerRequest { container_id: container.clone(), ..Default::default() };
        let statistics = agent.service.stats_container(soon(), &request).await.unwrap();
        let memory = &statistics.cgroup_stats.memory_stats.usage;
        assert!(memory.usage > 0 && memory.limit == 64 << 20, "{memory:?}");
        assert!(statistics.cgroup_stats.cpu_stats.cpu_usage.total_usage > 0);

        let request = api::PauseContainerRequest { container_id: container.clone(), ..Default::default() };
        agent.service.pause_container(soon(), &request).await.unwrap();
        let init = Process { container: &container, exec: "" };
        agent.write(init, "what is the limit?\n").await.unwrap();
        agent.write(init, "").await.unwrap();
        let waiting = tokio::time::timeout(std::time::Duration::from_secs(1), agent.wait(init)).await;
        assert!(waiting.is_err(), "a paused process ended: {waiting:?}");
        let request = api::ResumeContainerRequest { container_id: container.clone(), ..Default::default() };
        agent.service.resume_container(soon(), &request).await.unwrap();
        assert_eq!(agent.stdout(init).await, "67108864\n");
        assert_eq!(agent.wait(init).await.unwrap(), 0);
    }
}

on_node! {
    async fn the_pods_network_and_the_vm_are_described() {
        let (pod, agent) = Pod::start("described").await;
        let request = api::ListInterfacesRequest::new();
        let interfaces = agent.service.list_interfaces(soon(), &request).await.unwrap();
        let interface = &interfaces.Interfaces[0];
        assert_eq!((interface.name.as_str(), interface.mtu), ("eth0", 8951));
        let address = &interface.IPAddresses[0];
        assert_eq!((&address.address, address.mask.as_str()), (&pod.network.address, "24"));
        let routes = agent.service.list_routes(soon(), &api::ListRoutesRequest::new()).await.unwrap();
        let default = routes.Routes.iter().find(|route| route.dest.is_empty());
        assert_eq!(default.expect("a default route").gateway, "10.244.0.1");

        let metrics = agent.service.get_metrics(soon(), &api::GetMetricsRequest::new()).await.unwrap();
        assert!(metrics.metrics.contains("kata_guest_meminfo{item=\"memtotal\"} "), "{metrics:?}");
        let request = api::VolumeStatsRequest {
            volume_guest_path: "/run/kata-containers/sandbox/shm".to_owned(),
            ..Default::default()
        };
        let volume = agent.service.get_volume_stats(soon(), &request).await.unwrap();
        assert_eq!(volume.usage[0].total, 64 << 20, "{volume:?}");
        assert_eq!(volume.usage[1].unit, api::volume_usage::Unit::INODES.into());
    }
}

on_node! {
    async fn what_a_peer_pod_has_no_use_for_is_refused_as_not_implemented() {
        let (_pod, agent) = Pod::start("refused").await;
        let agent = &agent.service;
        let policy = api::SetPolicyRequest { policy: "package agent_policy".to_owned(), ..Default::default() };
        let refusals = [
            code(agent.set_policy(soon(), &policy).await),
            code(agent.update_interface(soon(), &api::UpdateInterfaceRequest::new()).await),
            code(agent.update_routes(soon(), &api::UpdateRoutesRequest::new()).await),
            code(agent.add_arp_neighbors(soon(), &neighbors()).await),
            code(agent.update_ephemeral_mounts(soon(), &api::UpdateEphemeralMountsRequest::new()).await),
            code(agent.online_cpu_mem(soon(), &api::OnlineCPUMemRequest::new()).await),
            code(agent.mem_hotplug_by_probe(soon(), &api::MemHotplugByProbeRequest::new()).await),
            code(agent.reseed_random_dev(soon(), &api::ReseedRandomDevRequest::new()).await),
            code(agent.set_guest_date_time(soon(), &api::SetGuestDateTimeRequest::new()).await),
            code(agent.add_swap(soon(), &api::AddSwapRequest::new()).await),
            code(agent.resize_volume(soon(), &api::ResizeVolumeRequest::new()).await),
            code(agent.get_ip_tables(soon(), &api::GetIPTablesRequest::new()).await),
            code(agent.set_ip_tables(soon(), &api::SetIPTablesRequest::new()).await),
        ];
        assert!(refusals.iter().all(|code| *code == Code::UNIMPLEMENTED), "{refusals:?}");
    }
}

on_node! {
    async fn a_sandbox_comes_first_and_only_once() {
        let (pod, agent) = Pod::start("order").await;
        // A worker that lost the answer asks again.
        agent.create_sandbox(&pod.id, &pod.name).await.unwrap();
        let container = "a".repeat(64);
        agent.create_container(&workload(&pod, &container, "", "true", &[])).await.unwrap();
        assert_eq!(code(exec_early(&agent, &container).await), Code::FAILED_PRECONDITION);
        agent.start_container(&container).await.unwrap();
        assert_eq!(code(agent.start_container(&container).await), Code::FAILED_PRECONDITION);
    }
}

/// A process for a container that was not started.
async fn exec_early(agent: &Agent, container: &str) -> ttrpc::Result<()> {
    let request = api::ExecProcessRequest {
        container_id: container.to_owned(),
        exec_id: "early".to_owned(),
        process: MessageField::some(exec("true", false)),
        ..Default::default()
    };
    agent.service.exec_process(soon(), &request).await.map(drop)
}

fn neighbors() -> api::AddARPNeighborsRequest {
    let neighbor = types::ARPNeighbor {
        device: "eth0".to_owned(),
        ..Default::default()
    };
    let all = api::ARPNeighbors {
        ARPNeighbors: vec![neighbor],
        ..Default::default()
    };
    api::AddARPNeighborsRequest {
        neighbors: MessageField::some(all),
        ..Default::default()
    }
}
