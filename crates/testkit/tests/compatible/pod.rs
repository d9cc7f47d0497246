//! A pod of a stock shim: its sandbox on the node, and what is left to do when a test ends.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::{
    agent::Agent,
    hypervisor::{Hypervisor, annotations},
    network::Network,
};

/// The Go shim's `remote_hypervisor_timeout`.
pub(crate) const GO_START_DEADLINE: Duration = Duration::from_secs(600);

/// A pod; its VM is stopped and its network removed when this goes.
pub(crate) struct Pod {
    /// The sandbox's id, as containerd makes them: 64 hexadecimal digits.
    pub(crate) id: String,
    /// The pod's name.
    pub(crate) name: String,
    /// What the CNI made.
    pub(crate) network: Network,
}

impl Pod {
    /// Takes an id and makes the network; the adaptor knows nothing of it yet.
    #[track_caller]
    pub(crate) fn new(name: &str) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        Self {
            // What differs comes first: names are made of the beginning.
            id: format!(
                "{:032x}{:032x}",
                now.as_nanos().reverse_bits(),
                std::process::id()
            ),
            name: name.to_owned(),
            network: Network::new(),
        }
    }

    /// `CreateVM` on a connection.
    pub(crate) async fn create_vm(&self, hypervisor: &Hypervisor) -> ttrpc::Result<String> {
        hypervisor
            .create_vm(&self.id, &self.network.path, annotations(&self.name))
            .await
    }

    /// A pod whose VM runs, and the agent's socket.
    pub(crate) async fn boot(name: &str) -> (Self, String) {
        let pod = Self::new(name);
        let hypervisor = Hypervisor::connect().await;
        let socket = pod.create_vm(&hypervisor).await.unwrap();
        hypervisor.start_vm(&pod.id, GO_START_DEADLINE).await.unwrap();
        (pod, socket)
    }

    /// A pod whose VM runs, with its sandbox made and its agent connected: for tests of what comes after.
    pub(crate) async fn start(name: &str) -> (Self, Agent) {
        let (pod, socket) = Self::boot(name).await;
        let agent = Agent::connect(&socket).await;
        agent.create_sandbox(&pod.id, &pod.name).await.unwrap();
        (pod, agent)
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        let id = self.id.clone();
        // A runtime of its own: the test's may be unwinding.
        let stopped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                let _ = Hypervisor::connect().await.stop_vm(&id, None).await;
            });
        });
        let _ = stopped.join();
    }
}
