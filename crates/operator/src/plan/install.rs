//! A KataConfig with peer pods: what must be there.

use k8s_openapi::jiff::Timestamp;
use peerpods_api::{KataConfig, names};

use super::{
    action::{Action, Plan},
    admission,
    capacity::Withheld,
    image,
    nodes::{self, NodeState},
    selection, settings,
    status::{self, Situation},
    way::{Membership, Way},
};
use crate::{
    installation::Installation, managed::ManagedObject, manifests, names as ours, node_runtime::Extent,
    observed::Observed,
};

/// How much is logged where the KataConfig asks for what is no level.
const DEFAULT_LOG_LEVEL: &str = "info";

pub(super) fn plan(
    config: &KataConfig,
    observed: &Observed,
    installation: &Installation,
    now: Timestamp,
    plan: &mut Plan,
) -> Withheld {
    if !has_finalizer(config) {
        // Nothing is made for it before it is certain that it will be removed again.
        let mut finalizers = config.metadata.finalizers.clone().unwrap_or_default();
        finalizers.push(names::finalizers::KATA_CONFIG.to_owned());
        plan.add(set_finalizers(config, finalizers));
        return Withheld::default();
    }
    let mut problems = settings::problems(observed);
    let is_valid = problems.is_empty();
    let publication = is_valid
        .then(|| image::plan(observed, installation, plan))
        .flatten();
    let starts_adaptors = is_valid && publication.is_none();
    objects(config, observed, installation, starts_adaptors, plan);
    problems.extend(config.spec.level().err().map(settings::Problem::LogLevel));
    problems.extend(settings::refused(observed));
    admission::certificate(config, observed, installation, now, plan);
    admission::remove_unwanted(config, observed, installation, now, plan);
    default_config(observed, installation, plan);

    let (wanted, invalid_selector) = match selection::selected(&config.spec, &observed.nodes) {
        Ok(wanted) => (wanted, None),
        // Nodes stay as they are: a selector that cannot be read says nothing about them.
        Err(error) => {
            let labelled = observed
                .nodes
                .iter()
                .filter(|(_, node)| node.labels.contains_key(ours::RUNTIME));
            (
                labelled.map(|(name, _)| name.clone()).collect(),
                Some(error.to_string()),
            )
        }
    };
    let states = nodes::plan(&wanted, observed, installation, now, plan);
    let situation = Situation {
        problems,
        states,
        invalid_selector,
        publication,
        missing_certificate: admission::missing_certificate(config, observed, installation),
        uninstalling: None,
    };
    status::say(config, &situation, observed, now, plan);
    withheld(&situation)
}

pub(super) fn has_finalizer(config: &KataConfig) -> bool {
    let finalizers = config.metadata.finalizers.as_deref().unwrap_or_default();
    finalizers.iter().any(|one| one == names::finalizers::KATA_CONFIG)
}

pub(super) fn set_finalizers(config: &KataConfig, finalizers: Vec<String>) -> Action {
    Action::SetFinalizers {
        kata_config: config.metadata.name.clone().unwrap_or_default(),
        finalizers,
        resource_version: config.metadata.resource_version.clone(),
    }
}

fn withheld(situation: &Situation) -> Withheld {
    let of = |is: fn(&NodeState) -> bool| {
        let nodes = situation.states.iter().filter(move |(_, state)| is(state));
        nodes.map(|(name, _)| name.clone()).collect()
    };
    Withheld {
        leaving: of(NodeState::is_leaving),
        unready: of(|state| *state != NodeState::Installed),
    }
}

/// Applies what is not there as it should be.
fn objects(
    config: &KataConfig,
    observed: &Observed,
    installation: &Installation,
    starts_adaptors: bool,
    plan: &mut Plan,
) {
    let mut wanted = vec![manifests::runtime_class(&installation.namespace)];
    match Way::of(observed, installation) {
        Way::DaemonSet => wanted.extend(manifests::node_runtime(installation, Extent::Everything)),
        Way::MachineConfigs(membership) => {
            wanted.extend(manifests::node_runtime(installation, Extent::Shim));
            wanted.push(manifests::machine_config(membership.pool()));
            if membership == Membership::OurPool {
                wanted.push(manifests::machine_config_pool());
            }
        }
        Way::Preinstalled => {}
    }
    if starts_adaptors {
        // Otherwise the adaptors go on with the settings that they have; none is started that could only fail.
        // A level that is none is said, and costs nobody the adaptor.
        let log_level = config.spec.level().unwrap_or(DEFAULT_LOG_LEVEL);
        wanted.push(manifests::adaptor(installation, observed, log_level));
    }
    wanted.extend(admission::wanted(config, observed, installation));
    plan.actions.extend(
        wanted
            .into_iter()
            .filter(|object| !is_there(object, observed))
            .map(Action::Apply),
    );
}

fn is_there(object: &ManagedObject, observed: &Observed) -> bool {
    observed
        .objects
        .get(&object.key)
        .is_some_and(|there| object.is_in(there))
}

/// Made once; what users change in it stays.
fn default_config(observed: &Observed, installation: &Installation, plan: &mut Plan) {
    if !observed
        .peer_pod_configs
        .iter()
        .any(|config| is_default(config, installation))
    {
        plan.add(Action::CreateConfig(Box::new(manifests::peer_pod_config(
            installation,
        ))));
    }
}

pub(super) fn is_default(config: &peerpods_api::PeerPodConfig, installation: &Installation) -> bool {
    config.metadata.name.as_deref() == Some(names::DEFAULT_PEER_POD_CONFIG)
        && config.metadata.namespace.as_deref() == Some(&installation.namespace)
}
