//! The provider with real namespaces, each test in network and mount namespaces of its own.
#![allow(clippy::unwrap_used)] // A test stops where its bed fails.

mod bed;

use std::fs;

use bed::{until, with_bed};
use peerpods_provider::{
    InstanceStatus, Provider, ProviderError,
    conformance::{self, request},
};
use peerpods_provider_namespaces::{NamespacesProvider, NamespacesSettings};

#[test]
fn the_provider_keeps_the_contract() {
    with_bed(|bed| async move { conformance::run_all(&*bed).await });
}

#[test]
fn a_guest_is_the_first_process_and_the_payload_does_not_stay() {
    with_bed(|bed| async move {
        let provider = bed.provider();
        let instance = provider.launch(&request("first", "node-a")).await.unwrap();
        assert_eq!(bed.devices(), 1);
        let directory = bed.directory(&instance.id);
        assert!(
            !directory.join("user-data").exists(),
            "the secret stays on the node"
        );
        let console = directory.join("console.log");
        until("the guest speaks", || {
            fs::read_to_string(&console).unwrap() == "process 1 waits\n"
        })
        .await;
        provider.terminate(&instance.id).await.unwrap();
    });
}

#[test]
fn the_pool_is_the_capacity_and_an_end_gives_its_address_back() {
    with_bed(|bed| async move { conformance::the_pool_is_the_capacity(&*bed, &bed.settings().pool).await });
}

#[test]
fn a_launch_that_fails_says_why_and_leaves_nothing() {
    with_bed(|bed| async move {
        let provider = NamespacesProvider::new(NamespacesSettings {
            bridge: "no-bridge".to_owned(),
            ..bed.settings()
        });
        let provider = provider.unwrap();
        let request = request("fails", "node-a");
        let error = provider.launch(&request).await.unwrap_err();
        let ProviderError::Failed { source, .. } = &error else {
            panic!("{error}");
        };
        assert!(source.to_string().contains("no-bridge"), "{source}");
        assert_eq!(provider.find(&request.token).await.unwrap(), None);
        let launched = bed.provider().launch(&request).await.unwrap();
        assert_eq!(
            provider.describe(&launched.id).await.unwrap(),
            InstanceStatus::Alive
        );
        provider.terminate(&launched.id).await.unwrap();
    });
}
