//! Rules for settings: what is wrong with them is named, and what is right reaches the adaptors.

use peerpods_api::names::conditions;
use serde_json::Value;

use super::{World, installed};
use crate::{
    managed::Kind,
    names,
    observed::{Credentials, PodState},
};

/// The DaemonSet's settings, as far as they make another version of it.
fn template(world: &World) -> Value {
    let set = world.object(Kind::DaemonSet, names::ADAPTOR).unwrap();
    set["spec"]["template"]["metadata"]["annotations"][names::SETTINGS_REVISION].clone()
}

#[test]
fn what_is_missing_is_named() {
    let mut world = installed(&["one"]);
    let says = |world: &mut World, reason: &str, text: &str| {
        world.settle();
        let said = world.condition(conditions::SETTINGS_VALID);
        assert_eq!((said.status.as_str(), said.reason.as_str()), ("False", reason));
        assert!(said.message.contains(text), "{}", said.message);
        assert_eq!(world.condition(conditions::READY).status, "False");
    };
    world.set("CLOUD_PROVIDER", "");
    says(
        &mut world,
        "KeyMissing",
        "peer-pods-cm has no value for CLOUD_PROVIDER",
    );
    world.set("CLOUD_PROVIDER", "gcp");
    says(&mut world, "KeyInvalid", "it must be aws, qemu or namespaces");
    world.set("CLOUD_PROVIDER", "aws");
    let keys = ["AWS_ACCESS_KEY_ID".to_owned()].into();
    world.observed.credentials = Some(Credentials {
        keys,
        version: "1".to_owned(),
    });
    says(
        &mut world,
        "KeyMissing",
        "peer-pods-secret has no value for AWS_SECRET_ACCESS_KEY, and one for AWS_ACCESS_KEY_ID",
    );
    world.set("CLOUD_PROVIDER", "qemu");
    world.set("VXLAN_PORT", "0");
    says(&mut world, "KeyInvalid", "VXLAN_PORT in peer-pods-cm is \"0\"");
    world.set("VXLAN_PORT", "4789");
    world.set("POD_SUBNET_CIDRS", "10.244.0.0/16, web");
    says(
        &mut world,
        "KeyInvalid",
        "POD_SUBNET_CIDRS in peer-pods-cm is \"10.244.0.0/16, web\": it must be networks such as",
    );
    world.set("POD_SUBNET_CIDRS", "10.244.0.0/16, fd00:96::/112,");
    world.set("EXTERNAL_NETWORK_VIA_PODVM", "perhaps");
    says(
        &mut world,
        "KeyInvalid",
        "EXTERNAL_NETWORK_VIA_PODVM in peer-pods-cm is \"perhaps\": it must be true or false",
    );
    world.observed.settings = None;
    says(
        &mut world,
        "ConfigMapMissing",
        "ConfigMap peer-pods-cm does not exist",
    );
}

#[test]
fn the_log_level_reaches_the_adaptors_and_one_that_is_none_is_said() {
    let mut world = installed(&["one"]);
    let level = |world: &World| {
        let set = world.object(Kind::DaemonSet, names::ADAPTOR).unwrap();
        let container = &set["spec"]["template"]["spec"]["containers"][0];
        let variables = container["env"].as_array().unwrap().clone();
        let level = variables.into_iter().find(|one| one["name"] == "LOG_LEVEL");
        level.unwrap()["value"].as_str().unwrap().to_owned()
    };
    assert_eq!(level(&world), "info");
    for (asked, expected) in [
        ("debug", "debug"),
        ("WARNING", "warn"),
        ("fatal", "error"),
        ("much", "info"),
    ] {
        world.config_mut().spec.log_level = asked.to_owned();
        world.settle();
        assert_eq!(level(&world), expected);
    }
    let said = world.condition(conditions::SETTINGS_VALID);
    assert_eq!(
        (said.reason.as_str(), said.message.as_str()),
        (
            "LogLevelInvalid",
            "spec.logLevel is \"much\": it must be error, warn, info, debug or trace"
        )
    );
}

#[test]
fn aws_needs_neither_keys_nor_a_subnet() {
    let mut world = installed(&["one"]);
    world.set("CLOUD_PROVIDER", "aws");
    world.set("PODVM_AMI_ID", "ami-1");
    world.settle();
    assert_eq!(world.condition(conditions::SETTINGS_VALID).status, "True");
    assert_eq!(world.condition(conditions::READY).status, "True");
}

#[test]
fn what_an_adaptor_refuses_is_said_and_new_settings_reach_it_all_the_same() {
    let mut world = installed(&["one"]);
    let first = template(&world);
    world.adaptor = PodState::Failing {
        reason: names::SETTINGS_REFUSED.to_owned(),
        message: "cannot set up the provider: PODVM_AMI_ID is missing".to_owned(),
    };
    world.settle();
    let said = world.condition(conditions::SETTINGS_VALID);
    assert_eq!(
        (said.status.as_str(), said.reason.as_str()),
        ("False", "SettingsRefused")
    );
    assert_eq!(
        said.message,
        "the adaptor does not start with them on one: cannot set up the provider: PODVM_AMI_ID is missing"
    );
    assert_eq!(world.condition(conditions::READY).reason, "SettingsRefused");
    world.set("PODVM_AMI_ID", "ami-1");
    world.settle();
    assert_ne!(first, template(&world));
    world.adaptor = PodState::Ready;
    world.settle();
    assert_eq!(world.condition(conditions::SETTINGS_VALID).status, "True");
}

#[test]
fn new_settings_replace_the_adaptors_and_invalid_ones_do_not() {
    let mut world = installed(&["one"]);
    let first = template(&world);
    world.set("PROXY_TIMEOUT", "8m");
    world.settle();
    let second = template(&world);
    assert_ne!(first, second);
    world.set("PROXY_TIMEOUT", "soon");
    world.set("PEERPODS_LIMIT_PER_NODE", "3");
    world.settle();
    assert_eq!(second, template(&world));
}
