//! What is found out when the provider starts, and what is said of what is not there.

use peerpods_provider::{Provider, conformance::request};
use peerpods_provider_aws::AwsProvider;
use peerpods_testkit::http::{HttpAnswer, HttpReply, HttpRequest, HttpServer};

use crate::bed::{Bed, HURRY, settings};

async fn refused(bed: &Bed) -> String {
    let error = AwsProvider::connect(bed.settings.clone(), HURRY)
        .await
        .unwrap_err();
    error.to_string()
}

#[tokio::test]
async fn what_is_not_there_is_named() {
    let Some(mut bed) = Bed::start(&[]).await else {
        return;
    };
    let image = std::mem::replace(&mut bed.settings.image, "ami-00000000000000000".to_owned());
    assert!(refused(&bed).await.contains("ami-00000000000000000"));
    bed.settings.image = image;
    bed.settings.allowed_types = vec!["m6a.huge".to_owned()];
    assert!(refused(&bed).await.contains("m6a.huge"));
    bed.settings.allowed_types.clear();
    bed.settings.default_type = "m6g.large".to_owned();
    let text = refused(&bed).await;
    assert!(
        text.contains("instance type m6g.large does not run VM images for x86_64"),
        "{text}"
    );
    bed.settings.default_type = "m6a.large".to_owned();
    bed.settings.prices = Some("/nonexistent/prices.csv".into());
    assert!(
        refused(&bed)
            .await
            .contains("PODVM_INSTANCE_PRICES: /nonexistent/prices.csv cannot be read")
    );
}

#[tokio::test]
async fn subnet_and_security_groups_are_the_workers_where_none_are_set() {
    let Some(bed) = Bed::start(&[]).await else { return };
    let (subnet, group) = (
        bed.settings.subnets[0].clone(),
        bed.settings.security_groups[0].clone(),
    );
    let of_worker = {
        let (subnet, group) = (subnet.clone(), group.clone());
        move |request: &HttpRequest| match request.target.as_str() {
            "/latest/api/token" => HttpAnswer::Reply(HttpReply {
                status: 200,
                headers: vec![("x-aws-ec2-metadata-token-ttl-seconds".into(), "21600".into())],
                body: b"a-session".into(),
            }),
            "/latest/meta-data/mac" => HttpAnswer::new(200, "02:00:00:00:00:01"),
            "/latest/meta-data/network/interfaces/macs/02:00:00:00:00:01/subnet-id" => {
                HttpAnswer::new(200, subnet.as_str())
            }
            "/latest/meta-data/network/interfaces/macs/02:00:00:00:00:01/security-group-ids" => {
                HttpAnswer::new(200, group.as_str())
            }
            _ => HttpAnswer::new(404, "no such value"),
        }
    };
    let unset = [("AWS_SUBNET_ID", ""), ("AWS_SG_IDS", "")];
    let mut on_worker = settings(&bed.emulator, &bed.settings.image, &unset);
    on_worker.aws.metadata_endpoint = Some(HttpServer::start(of_worker).url());
    let provider = AwsProvider::connect(on_worker.clone(), HURRY).await.unwrap();
    provider.launch(&request("attached", "node-a")).await.unwrap();
    let asked = bed.emulator.requests_of("RunInstances").remove(0);
    assert_eq!(asked.parameter("SubnetId"), Some(subnet.as_str()));
    assert_eq!(asked.parameter("SecurityGroupId.1"), Some(group.as_str()));

    // A worker that is no EC2 instance.
    on_worker.aws.metadata_endpoint = Some(HttpServer::start(|_| HttpAnswer::new(404, "")).url());
    let error = AwsProvider::connect(on_worker, HURRY)
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("AWS_SUBNET_ID is not set, and the worker's instance metadata"),
        "{error}"
    );
}

#[tokio::test]
async fn kinds_differ_where_instances_would() {
    let Some(mut bed) = Bed::start(&[("PODVM_INSTANCE_TYPES", "m6i.large")]).await else {
        return;
    };
    let shape = peerpods_provider::Shape::default();
    let before = bed.connect(HURRY).await.kind(&shape).unwrap();
    assert_eq!(bed.connect(HURRY).await.kind(&shape).unwrap(), before);
    bed.settings.root_volume_gib = 77;
    assert_ne!(bed.connect(HURRY).await.kind(&shape).unwrap(), before);
}
