//! The objects that the operator installs.

mod adaptor;
mod image_publisher;
mod machine_configs;
mod namespaces;
mod node_runtime;
mod runtime_class;
mod webhook;

pub(crate) use self::node_runtime::NODE_ROOT;
pub use self::{
    adaptor::adaptor,
    image_publisher::image_publisher,
    machine_configs::{machine_config, machine_config_pool},
    namespaces::{InvalidSelector, namespace_policy},
    node_runtime::node_runtime,
    runtime_class::{peer_pod_config, runtime_class},
    webhook::{Certificate, certificate, mutation_policy, registration, webhook},
};

use serde_json::{Value, json};

use crate::{names, observed::Component};

/// The labels by which a component's controller finds its pods: they can never change.
fn selector(component: Component) -> Value {
    json!({ (names::COMPONENT): component.label(), (names::MANAGED_BY): names::MANAGER })
}
