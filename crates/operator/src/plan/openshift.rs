//! Rules for clusters whose nodes the Machine Config Operator configures, which is played here.

use peerpods_api::names::{conditions, labels};

use super::world::World;
use crate::{
    installation::NodeRuntime,
    managed::Kind,
    names::{
        CONTROL_PLANE, MACHINE_CONFIG, MASTER_POOL, NODE_INSTALL, POOL, RUNTIME, RUNTIME_REMOVE, WORKER_POOL,
    },
    observed::{MachineConfigOfNode, NodeName, PodState, Pool},
};

const ROLE: &str = "machineconfiguration.openshift.io/role";

impl World {
    /// Nodes of these names in an OpenShift: workers, or each all that there is.
    pub(super) fn openshift(names: &[&str], is_converged: bool) -> Self {
        let mut world = Self::with_workers(names);
        world.installation.node_runtime = NodeRuntime::Auto;
        for pool in [WORKER_POOL, MASTER_POOL] {
            world.observed.pools.insert(pool.to_owned(), Pool::default());
        }
        if is_converged {
            for node in world.observed.nodes.values_mut() {
                node.labels.insert(CONTROL_PLANE[1].to_owned(), String::new());
            }
        }
        while world.be_machine_config_operator() {}
        world
    }

    /// A moment of its work; tells whether something changed. Without pools there is none.
    pub(super) fn be_machine_config_operator(&mut self) -> bool {
        if self.observed.pools.is_empty() {
            return false;
        }
        let before = (self.observed.pools.clone(), self.observed.nodes.clone());
        match self.object(Kind::MachineConfigPool, POOL).is_some() {
            true => _ = self.observed.pools.entry(POOL.to_owned()).or_default(),
            false => _ = self.observed.pools.remove(POOL),
        }
        let role = self
            .object(Kind::MachineConfig, MACHINE_CONFIG)
            .map(|object| object["metadata"]["labels"][ROLE].clone());
        for (name, pool) in &mut self.observed.pools {
            let has_ours = role.as_ref().is_some_and(|role| role == name);
            let rendered = format!("rendered-{name}{}", if has_ours { "-ours" } else { "" });
            pool.with_ours = has_ours.then(|| rendered.clone()).into_iter().collect();
            for node in self.observed.nodes.values_mut() {
                let is_master = node.labels.contains_key(CONTROL_PLANE[1]);
                let is_ours = node.labels.contains_key(labels::KATA_NODE) && before.0.contains_key(POOL);
                let of = match (is_master, is_ours) {
                    (true, _) => MASTER_POOL,
                    (false, true) => POOL,
                    (false, false) => WORKER_POOL,
                };
                if of == name {
                    advance(&mut node.machine_config, &rendered);
                }
            }
        }
        before != (self.observed.pools.clone(), self.observed.nodes.clone())
    }

    fn machine_config(&mut self, node: &str) -> &mut MachineConfigOfNode {
        let node = self.observed.nodes.get_mut(&NodeName(node.to_owned())).unwrap();
        node.machine_config.as_mut().unwrap()
    }
}

/// One of the steps of a node towards a configuration.
fn advance(node: &mut Option<MachineConfigOfNode>, rendered: &str) {
    let config = node.get_or_insert_default();
    if config.stuck.is_some() {
        return;
    }
    if config.desired != rendered {
        (config.desired, config.done) = (rendered.to_owned(), false);
    } else {
        (config.current, config.done) = (rendered.to_owned(), true);
    }
}

fn is_labelled(world: &World, node: &str) -> bool {
    let node = &world.observed.nodes[&NodeName(node.to_owned())];
    node.labels.contains_key(labels::KATA_NODE)
}

fn arguments_of_the_installer(world: &World) -> String {
    let set = world.object(Kind::DaemonSet, NODE_INSTALL).unwrap();
    set["spec"]["template"]["spec"]["containers"][0]["args"].to_string()
}

#[test]
fn a_node_has_the_shim_before_it_joins_the_pool() {
    let mut world = World::openshift(&["one", "two"], false);
    world.installer = PodState::Starting;
    world.create_kata_config("kata");
    world.settle();
    assert!(world.object(Kind::MachineConfigPool, POOL).is_some());
    assert!(!is_labelled(&world, "one"));
    world.installer = PodState::Ready;
    world.settle();
    assert_eq!(world.machine_config("one").current, "rendered-kata-oc-ours");
    assert!(arguments_of_the_installer(&world).contains("--shim-only"));
    assert_eq!(world.condition(conditions::READY).status, "True");
    assert_eq!(world.capacity("two").as_deref(), Some("10"));
    // It restarts.
    world.installer = PodState::Starting;
    world.now += super::RUNTIME_LIMIT;
    world.settle();
    assert_eq!(world.condition(conditions::READY).status, "True");
}

#[test]
fn a_node_leaves_the_pool_before_it_loses_the_shim() {
    let mut world = World::openshift(&["one"], false);
    world.create_kata_config("kata");
    world.settle();
    world.delete_kata_config();
    for _ in 0..60 {
        for action in world.plan().actions {
            world.perform(&action);
        }
        let node = &world.observed.nodes[&NodeName("one".to_owned())];
        if node.labels.get(RUNTIME).map(String::as_str) == Some(RUNTIME_REMOVE) {
            break;
        }
        world.be_kubernetes();
    }
    assert_eq!(world.machine_config("one").current, "rendered-worker");
    world.settle();
    world.assert_clean();
    assert!(world.observed.kata_configs.is_empty());
}

#[test]
fn where_all_nodes_are_of_the_control_plane_its_pool_has_the_configuration() {
    let mut world = World::openshift(&["only"], true);
    world.create_kata_config("kata");
    world.settle();
    assert!(world.object(Kind::MachineConfigPool, POOL).is_none());
    assert_eq!(world.machine_config("only").current, "rendered-master-ours");
    assert_eq!(world.condition(conditions::READY).status, "True");
    world.delete_kata_config();
    world.settle();
    assert_eq!(world.machine_config("only").current, "rendered-master");
    world.assert_clean();
}

#[test]
fn without_pools_pods_do_all_of_it() {
    let mut world = World::with_workers(&["one"]);
    world.installation.node_runtime = NodeRuntime::Auto;
    world.create_kata_config("kata");
    world.settle();
    assert!(world.object(Kind::MachineConfig, MACHINE_CONFIG).is_none());
    assert!(!arguments_of_the_installer(&world).contains("--shim-only"));
    assert_eq!(world.condition(conditions::READY).status, "True");
}

#[test]
fn a_node_or_pool_that_cannot_be_configured_is_named() {
    let mut world = World::openshift(&["one", "two"], false);
    world.machine_config("one").stuck = Some("disk is full".to_owned());
    world.create_kata_config("kata");
    world.settle();
    let message = world.condition(conditions::READY).message;
    assert!(
        message.contains("on one, Degraded") && message.contains("disk is full"),
        "{message}"
    );
    world.observed.pools.get_mut(POOL).unwrap().degraded = Some("two files of one path".to_owned());
    world.settle();
    let message = world.condition(conditions::READY).message;
    assert!(
        message.contains("MachineConfigPool kata-oc: two files of one path"),
        "{message}"
    );
}
