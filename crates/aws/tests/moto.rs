//! The client against moto's server, which reads requests and writes answers as AWS does.
#![allow(clippy::unwrap_used)]

mod support;

use bytes::Bytes;
use peerpods_aws::{
    Action, Aws, AwsSettings, EbsAction, EbsRequest, Items, Listed, Parameters, RefusalKind, Tag,
};
use peerpods_testkit::ec2::Moto;
use serde::Deserialize;
use support::account;

async fn connect(moto: &Moto) -> Aws {
    let settings = AwsSettings {
        ec2_endpoint: Some(moto.url()),
        ebs_endpoint: Some(moto.url()),
        ..account()
    };
    Aws::connect(&settings).await.unwrap()
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RegisteredImage {
    image_id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Image {
    image_id: String,
    name: String,
    #[serde(default)]
    tag_set: Items<Tag>,
}

impl Listed for Image {
    const ACTION: Action = Action::DescribeImages;
    const SET: &'static str = "imagesSet";
}

#[tokio::test]
async fn ec2_makes_tags_lists_and_refuses() {
    let Some(moto) = Moto::start() else { return };
    let ec2 = connect(&moto).await.ec2();
    let mut parameters = Parameters::new();
    parameters.set("Name", "peer pod & friends");
    let image: RegisteredImage = ec2.call(Action::RegisterImage, &parameters).await.unwrap();

    let mut parameters = Parameters::new();
    parameters
        .set_list("ResourceId", [&image.image_id])
        .set_tags("Tag", [("made-by", "peerpods"), ("grün", "")]);
    let () = ec2
        .call::<serde::de::IgnoredAny>(Action::CreateTags, &parameters)
        .await
        .map(drop)
        .unwrap();

    let mut parameters = Parameters::new();
    parameters.set_filter(1, "tag:made-by", ["peerpods"]);
    let found = ec2.list::<Image>(&parameters).await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(
        (&found[0].image_id, found[0].name.as_str()),
        (&image.image_id, "peer pod & friends")
    );
    let green = found[0].tag_set.items.iter().find(|tag| tag.key == "grün");
    assert_eq!(green.map(|tag| tag.value.as_str()), Some(""));

    let mut parameters = Parameters::new();
    parameters.set_list("ImageId", ["ami-00000000000000000"]);
    let error = ec2.list::<Image>(&parameters).await.err().unwrap();
    assert_eq!(error.refusal(), Some(RefusalKind::NotFound), "{error}");
    assert!(!error.retryable());
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct StartedSnapshot {
    snapshot_id: String,
    block_size: usize,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Blocks {
    blocks: Vec<Block>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Block {
    block_index: u32,
    block_token: String,
}

#[tokio::test]
async fn a_snapshot_gives_back_the_bytes_that_were_written() {
    let Some(moto) = Moto::start() else { return };
    let ebs = connect(&moto).await.ebs();
    let request = |action, path: String, body: Bytes| EbsRequest {
        action,
        path,
        headers: Vec::new(),
        body,
    };
    let json = Bytes::from_static(br#"{"VolumeSize": 1, "ClientToken": "publish-1"}"#);
    let start = request(EbsAction::StartSnapshot, "/snapshots".into(), json);
    let StartedSnapshot {
        snapshot_id,
        block_size,
    } = ebs.call(start).await.unwrap();

    let block = Bytes::from(vec![0xa5; block_size]);
    let mut put = request(
        EbsAction::PutSnapshotBlock,
        format!("/snapshots/{snapshot_id}/blocks/7"),
        block.clone(),
    );
    put.headers = [
        ("x-amz-data-length", block_size.to_string()),
        ("x-amz-checksum-algorithm", "SHA256".to_owned()),
        ("x-amz-checksum", "not checked by moto".to_owned()),
    ]
    .map(|(name, value)| (name.parse().unwrap(), value))
    .into();
    ebs.send(put).await.unwrap();
    let mut complete = request(
        EbsAction::CompleteSnapshot,
        format!("/snapshots/completion/{snapshot_id}"),
        Bytes::new(),
    );
    complete.headers = vec![("x-amz-changedblockscount".parse().unwrap(), "1".to_owned())];
    ebs.send(complete).await.unwrap();

    let list = request(
        EbsAction::ListSnapshotBlocks,
        format!("/snapshots/{snapshot_id}/blocks"),
        Bytes::new(),
    );
    let listed: Blocks = ebs.call(list).await.unwrap();
    assert_eq!((listed.blocks.len(), listed.blocks[0].block_index), (1, 7));
    let token = &listed.blocks[0].block_token;
    let get = request(
        EbsAction::GetSnapshotBlock,
        format!("/snapshots/{snapshot_id}/blocks/7?blockToken={token}"),
        Bytes::new(),
    );
    assert_eq!(ebs.send(get).await.unwrap().body, block);
}
