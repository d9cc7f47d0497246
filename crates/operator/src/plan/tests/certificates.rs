//! Rules for who issues the webhook's certificate; cert-manager is played.

use k8s_openapi::ByteString;
use peerpods_api::{admission::WEBHOOK_CONFIGURATION, names::conditions};
use serde_json::json;

use super::{World, installed};
use crate::{
    managed::{Kind, ObjectKey},
    names::{WEBHOOK, WEBHOOK_SECRET},
};

fn authority(number: u8) -> String {
    format!("-----BEGIN CERTIFICATE-----\n{number}\n-----END CERTIFICATE-----\n")
}

/// What is to be issued is, by this authority.
fn be_cert_manager(world: &mut World, number: u8) {
    assert!(world.object(Kind::Certificate, WEBHOOK).is_some());
    let bytes = |text: &str| json!(ByteString(text.as_bytes().to_vec()));
    let secret = json!({
        "metadata": {"name": WEBHOOK_SECRET},
        "data": {"tls.crt": bytes("certificate"), "tls.key": bytes("kept"), "ca.crt": bytes(&authority(number))},
    });
    let key = ObjectKey::new(Kind::Secret, WEBHOOK_SECRET);
    world.observed.objects.insert(key, secret);
    world.settle();
}

/// What the API server trusts.
fn trusted(world: &World) -> String {
    let object = world.object(Kind::MutatingWebhookConfiguration, WEBHOOK_CONFIGURATION);
    let bundle = &object.unwrap()["webhooks"][0]["clientConfig"]["caBundle"];
    let bundle: ByteString = serde_json::from_value(bundle.clone()).unwrap();
    String::from_utf8(bundle.0).unwrap()
}

#[test]
fn an_issuer_of_cert_manager_takes_the_place_of_the_operator_and_the_other_way_round() {
    let mut world = installed(&["one"]);
    let own = trusted(&world);
    world.installation.issuer = Some("ClusterIssuer/company".parse().unwrap());
    world.settle();
    let asked = world.object(Kind::Certificate, WEBHOOK).unwrap();
    assert_eq!(asked["spec"]["issuerRef"]["name"], "company");
    be_cert_manager(&mut world, 1);
    assert!(trusted(&world).starts_with(&authority(1)) && trusted(&world).ends_with(&own));
    be_cert_manager(&mut world, 2);
    assert_eq!(trusted(&world), format!("{}{}", authority(2), authority(1)));
    assert_eq!(world.condition(conditions::READY).status, "True");

    world.installation.issuer = None;
    world.settle();
    assert!(world.object(Kind::Certificate, WEBHOOK).is_none());
    assert!(!trusted(&world).starts_with(&authority(2)) && trusted(&world).ends_with(&authority(2)));
    world.delete_kata_config();
    world.settle();
    world.assert_clean();
}

#[test]
fn what_cert_manager_lacks_is_named() {
    let mut world = World::with_workers(&["one"]);
    world.installation.issuer = Some("Issuer/team".parse().unwrap());
    world.observed.unserved.insert(Kind::Certificate);
    world.create_kata_config("kata");
    world.settle();
    assert_eq!(world.condition(conditions::READY).reason, "CertManagerMissing");
    world.observed.unserved.remove(&Kind::Certificate);
    world.settle();
    assert_eq!(world.condition(conditions::READY).reason, "CertificateMissing");
    be_cert_manager(&mut world, 1);
    assert_eq!(world.condition(conditions::READY).status, "True");
    assert_eq!(trusted(&world), authority(1));
}
