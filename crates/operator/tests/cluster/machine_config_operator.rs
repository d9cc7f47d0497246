//! What OpenShift's Machine Config Operator does, as far as nodes tell of it.

use std::{
    collections::{BTreeMap, hash_map::DefaultHasher},
    hash::{Hash, Hasher},
};

use k8s_openapi::{api::core::v1::Node, apimachinery::pkg::apis::meta::v1::LabelSelector};
use kube::{
    Api, Client, Resource,
    api::{ApiResource, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams},
    core::{Selector, SelectorExt},
};
use serde_json::{Value, json};

const GROUP: &str = "machineconfiguration.openshift.io";

fn api(client: &Client, kind: &str) -> Api<DynamicObject> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(GROUP, "v1", kind));
    Api::all_with(client.clone(), &resource)
}

fn annotation(name: &str) -> String {
    format!("{GROUP}/{name}")
}

/// A look at the cluster; nothing where it is no OpenShift.
pub(crate) async fn be(client: &Client, nodes: &[Node]) -> Result<(), kube::Error> {
    let (pools, configs) = (api(client, "MachineConfigPool"), api(client, "MachineConfig"));
    let all = ListParams::default();
    let listed = match pools.list(&all).await {
        Err(kube::Error::Api(status)) if status.code == 404 => return Ok(()),
        listed => listed?.items,
    };
    let configs = configs.list(&all).await?.items;
    let mut rendered = BTreeMap::new();
    for pool in &listed {
        let configuration = render(pool, &configs);
        let name = pool.metadata.name.clone().unwrap();
        if pool.data["spec"]["configuration"] != configuration {
            let patch = json!({"spec": {"configuration": configuration}});
            pools
                .patch(&name, &PatchParams::default(), &Patch::Merge(patch))
                .await?;
        }
        rendered.insert(name, configuration);
    }
    let mut have: BTreeMap<&str, Vec<bool>> = BTreeMap::new();
    for node in nodes {
        let pool = pool_of(node, &listed);
        let target = rendered[pool]["name"].as_str().unwrap();
        have.entry(pool)
            .or_default()
            .push(advance(client, node, target).await?);
    }
    for (name, configuration) in &rendered {
        let nodes = have.get(name.as_str()).map_or(&[][..], |nodes| nodes);
        let updated = nodes.iter().filter(|has| **has).count();
        let mut status = json!({"machineCount": nodes.len(), "updatedMachineCount": updated});
        if updated == nodes.len() {
            status["configuration"] = configuration.clone();
        }
        pools
            .patch_status(
                name,
                &PatchParams::default(),
                &Patch::Merge(json!({"status": status})),
            )
            .await?;
    }
    Ok(())
}

/// All that a pool selects, as one configuration.
fn render(pool: &DynamicObject, configs: &[DynamicObject]) -> Value {
    let selector = pool.data["spec"]["machineConfigSelector"].clone();
    let selector: LabelSelector = serde_json::from_value(selector).unwrap();
    let selector = Selector::try_from(selector).unwrap();
    let chosen: Vec<_> = configs
        .iter()
        .filter(|config| selector.matches(config.metadata.labels.as_ref().unwrap()))
        .collect();
    let mut hash = DefaultHasher::new();
    let names: Vec<_> = chosen
        .iter()
        .map(|config| {
            let name = config.metadata.name.clone().unwrap();
            (&name, config.data["spec"].to_string()).hash(&mut hash);
            json!({"apiVersion": format!("{GROUP}/v1"), "kind": "MachineConfig", "name": name})
        })
        .collect();
    let name = format!(
        "rendered-{}-{:x}",
        pool.metadata.name.as_ref().unwrap(),
        hash.finish()
    );
    json!({"apiVersion": format!("{GROUP}/v1"), "kind": "MachineConfig", "name": name, "source": names})
}

/// Nodes of the control plane are in no other pool; a pool of one's own comes before that of workers.
fn pool_of(node: &Node, pools: &[DynamicObject]) -> &'static str {
    let labels = node.meta().labels.clone().unwrap_or_default();
    let has = |role: &str| labels.contains_key(&format!("node-role.kubernetes.io/{role}"));
    let exists = pools
        .iter()
        .any(|pool| pool.metadata.name.as_deref() == Some("kata-oc"));
    match (has("master"), has("kata-oc") && exists) {
        (true, _) => "master",
        (false, true) => "kata-oc",
        (false, false) => "worker",
    }
}

/// One step of a node towards a configuration; whether it has it.
async fn advance(client: &Client, node: &Node, target: &str) -> Result<bool, kube::Error> {
    let annotations = node.meta().annotations.clone().unwrap_or_default();
    let of = |name: &str| annotations.get(&annotation(name)).map(String::as_str);
    let change = match (of("desiredConfig"), of("currentConfig")) {
        (Some(desired), Some(current)) if desired == target && current == target => return Ok(true),
        (Some(desired), Some(_)) if desired == target => {
            json!({(annotation("currentConfig")): target, (annotation("state")): "Done"})
        }
        (_, current) => json!({
            (annotation("desiredConfig")): target,
            (annotation("currentConfig")): current.unwrap_or("rendered-before"),
            (annotation("state")): "Working",
        }),
    };
    let patch = json!({"metadata": {"annotations": change}});
    Api::<Node>::all(client.clone())
        .patch(
            node.meta().name.as_ref().unwrap(),
            &PatchParams::default(),
            &Patch::Merge(patch),
        )
        .await?;
    Ok(false)
}
