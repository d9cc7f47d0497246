//! Killed anywhere, whatever else happens, the operator comes to the same end.

use peerpods_api::{admission::WEBHOOK_CONFIGURATION, names::conditions};
use proptest::prelude::*;

use super::world::World;
use crate::{managed::Kind, names, observed::NodeName};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Killed after any action of any plan, the operator comes to the same end, whatever else happened meanwhile.
    #[test]
    fn whatever_is_interrupted_the_end_is_the_same(
        steps in proptest::collection::vec((0usize..8, any::<bool>(), 0u8..5), 1..40),
        is_deleted in any::<bool>(),
        pools in proptest::option::of(any::<bool>()),
    ) {
        let nodes = ["one", "two"];
        let mut world = pools.map_or_else(|| World::with_workers(&nodes), |converged| World::openshift(&nodes, converged));
        world.create_kata_config("kata");
        for (done, kubernetes_acts, change) in steps {
            for action in world.plan().actions.into_iter().rev().take(done) {
                world.perform(&action);
            }
            if kubernetes_acts {
                world.be_kubernetes();
            }
            let two = world.observed.nodes.get_mut(&NodeName("two".to_owned())).unwrap();
            match change {
                0 => two.capacity = Some("0".to_owned()),
                1 => _ = two.labels.remove(names::WORKER),
                2 => _ = two.labels.insert(names::WORKER.to_owned(), String::new()),
                3 => world.config_mut().spec.enable_peer_pods ^= true,
                _ => {}
            }
            // At no time is a webhook registered that cannot be reached.
            let registered = world.object(Kind::MutatingWebhookConfiguration, WEBHOOK_CONFIGURATION).is_some();
            prop_assert!(!registered || world.object(Kind::Deployment, names::WEBHOOK).is_some());
        }
        let two = world.observed.nodes.get_mut(&NodeName("two".to_owned())).unwrap();
        two.labels.insert(names::WORKER.to_owned(), String::new());
        world.config_mut().spec.enable_peer_pods = true;
        world.settle();
        prop_assert_eq!(world.condition(conditions::READY).status, "True");
        prop_assert_eq!(world.capacity("two"), Some("10".to_owned()));
        if is_deleted {
            world.delete_kata_config();
            world.settle();
            prop_assert!(world.observed.kata_configs.is_empty());
            world.assert_clean();
        }
    }
}
