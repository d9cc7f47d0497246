//! A disk published to moto's server, and read back.
//!
//! `PEERPODS_TEST_MOTO` names the folder that moto is installed in; without it these tests say so and pass.
#![allow(clippy::unwrap_used)] // A test stops where its bed fails.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    os::unix::fs::FileExt,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use peerpods_aws::{Action, Aws, AwsSettings, EbsAction, EbsRequest, Parameters, StaticCredentials};
use peerpods_image::{
    BLOCK_BYTES, BlockList, DISK_BYTES,
    publish::{ACTIONS, DIGEST_TAG, EBS_ACTIONS, Progress, PublishError, copy, list, prune, publish, share},
};
use peerpods_testkit::{
    ec2::ImageRegistry,
    http::{HttpAnswer, HttpRequest},
};
use serde::Deserialize;
use tempfile::TempDir;

const REGION: &str = "eu-central-1";

async fn connect(registry: &ImageRegistry) -> Aws {
    let settings = AwsSettings {
        region: Some(REGION.parse().unwrap()),
        credentials: Some(StaticCredentials::new(
            "AKIDEXAMPLE".into(),
            "secret".into(),
            None,
        )),
        ec2_endpoint: Some(registry.url()),
        ebs_endpoint: Some(registry.url()),
        ..AwsSettings::default()
    };
    Aws::connect(&settings).await.unwrap()
}

/// A disk with something in each of these blocks.
fn disk(folder: &TempDir, name: &str, blocks: &[u32]) -> PathBuf {
    let path = folder.path().join(name);
    let file = File::create_new(&path).unwrap();
    file.set_len(DISK_BYTES).unwrap();
    for index in blocks {
        let text = format!("{name}, block {index}");
        let offset = u64::from(*index) * BLOCK_BYTES as u64 + u64::from(*index);
        file.write_all_at(text.as_bytes(), offset).unwrap();
    }
    path
}

fn quietly(_: Progress) {}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    blocks: Vec<ListedBlock>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ListedBlock {
    block_index: u32,
    block_token: String,
}

/// A snapshot's blocks, as EBS gives them back.
async fn read_back(aws: &Aws, snapshot: &str) -> BTreeMap<u32, Bytes> {
    let ebs = aws.ebs();
    let request = |action, path| EbsRequest {
        action,
        path,
        headers: Vec::new(),
        body: Bytes::new(),
    };
    let list = request(
        EbsAction::ListSnapshotBlocks,
        format!("/snapshots/{snapshot}/blocks"),
    );
    let mut blocks = BTreeMap::new();
    for block in ebs.call::<Listed>(list).await.unwrap().blocks {
        let path = format!(
            "/snapshots/{snapshot}/blocks/{}?blockToken={}",
            block.block_index, block.block_token
        );
        let reply = ebs
            .send(request(EbsAction::GetSnapshotBlock, path))
            .await
            .unwrap();
        blocks.insert(block.block_index, reply.body);
    }
    blocks
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_published_is_the_disk_and_is_published_once() {
    let Some(registry) = ImageRegistry::start() else {
        return;
    };
    let aws = connect(&registry).await;
    let folder = TempDir::new().unwrap();
    let path = disk(&folder, "disk.raw", &[0, 2, 3, 100, 2047]);
    let seen = Mutex::new(Vec::new());
    let image = publish(&aws, &path, &|progress| seen.lock().unwrap().push(progress))
        .await
        .unwrap();

    let [registration] = &registry.registrations()[..] else {
        panic!("one image was to be registered")
    };
    let of = |name: &str| registration.parameter(name).unwrap();
    assert_eq!(
        [
            of("BootMode"),
            of("TpmSupport"),
            of("ImdsSupport"),
            of("EnaSupport"),
            of("Architecture")
        ],
        ["uefi", "v2.0", "v2.0", "true", "x86_64"]
    );
    assert_eq!(of("RootDeviceName"), of("BlockDeviceMapping.1.DeviceName"));
    let snapshot = read_back(&aws, of("BlockDeviceMapping.1.Ebs.SnapshotId")).await;
    let blocks = BlockList::read(&path).unwrap();
    let file = File::open(&path).unwrap();
    let written: BTreeMap<u32, Bytes> = blocks
        .blocks()
        .iter()
        .map(|block| {
            (
                block.index,
                peerpods_image::read_block(&file, block.index).unwrap().into(),
            )
        })
        .collect();
    assert!(snapshot == written, "what EBS gives back is not the disk");
    assert_eq!(image.digest, blocks.digest().to_string());
    let seen = seen.into_inner().unwrap();
    assert_eq!(seen[0], Progress::Blocks { done: 0, total: 5 });
    assert!(seen.ends_with(&[
        Progress::Blocks { done: 5, total: 5 },
        Progress::Completing,
        Progress::Registering
    ]));

    // The second time nothing is written, and nothing is left beside the disk.
    assert_eq!(publish(&aws, &path, &quietly).await.unwrap(), image);
    assert_eq!(
        (registry.blocks_written(), registry.registrations().len()),
        (5, 1)
    );
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    assert_eq!(list(&aws).await.unwrap(), [image]);
}

/// What a request asks for, as policies name it.
fn permission(request: &HttpRequest) -> String {
    let text = request.text();
    if let Some((_, rest)) = text.split_once("Action=") {
        let name = rest.split('&').next().unwrap();
        return format!("ec2:{name}");
    }
    let action = match (request.method.as_str(), request.target.as_str()) {
        ("PUT", _) => EbsAction::PutSnapshotBlock,
        ("POST", "/snapshots") => EbsAction::StartSnapshot,
        ("POST", _) => EbsAction::CompleteSnapshot,
        other => panic!("{other:?} is no call of a publication"),
    };
    format!("ebs:{}", action.name())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_policy_of_who_publishes_has_what_is_called_and_nothing_else() {
    let Some(registry) = ImageRegistry::start() else {
        return;
    };
    let asked = Arc::new(Mutex::new(BTreeSet::new()));
    let seen = asked.clone();
    registry.set_faults(move |request| {
        seen.lock().unwrap().insert(permission(request));
        None
    });
    let aws = connect(&registry).await;
    let folder = TempDir::new().unwrap();
    publish(&aws, &disk(&folder, "disk.raw", &[1]), &quietly)
        .await
        .unwrap();
    let ec2 = ACTIONS.iter().map(|action| format!("ec2:{}", action.name()));
    let ebs = EBS_ACTIONS.iter().map(|action| format!("ebs:{}", action.name()));
    assert_eq!(*asked.lock().unwrap(), ec2.chain(ebs).collect());
}

/// Whether a request writes a block.
fn is_block(request: &HttpRequest) -> bool {
    request.method == "PUT"
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_interrupted_goes_on_where_it_was() {
    let Some(registry) = ImageRegistry::start() else {
        return;
    };
    let aws = connect(&registry).await;
    let folder = TempDir::new().unwrap();
    let blocks: Vec<u32> = (0..60).collect();
    let path = disk(&folder, "disk.raw", &blocks);
    let asked = AtomicUsize::new(0);
    registry.set_faults(move |request| {
        let refused = is_block(request) && asked.fetch_add(1, Ordering::SeqCst) >= 40;
        refused.then(|| HttpAnswer::new(403, r#"{"__type": "AccessDeniedException"}"#))
    });
    let error = publish(&aws, &path, &quietly).await.unwrap_err();
    assert_eq!(error.to_string(), "cannot write a block of the snapshot");
    let before = registry.blocks_written();
    assert_eq!(before, 40);

    // A connection that breaks is nothing to speak of.
    let broken = AtomicUsize::new(0);
    registry.set_faults(move |request| {
        let breaks = is_block(request) && broken.fetch_add(1, Ordering::SeqCst) == 3;
        breaks.then_some(HttpAnswer::HangUp)
    });
    let image = publish(&aws, &path, &quietly).await.unwrap();
    // Those that were refused, and those whose answer was not read when the first refusal came.
    let again = registry.blocks_written() - before;
    assert!((20..60).contains(&again), "{again} blocks were written again");
    let snapshot = registry.registrations()[0]
        .parameter("BlockDeviceMapping.1.Ebs.SnapshotId")
        .unwrap()
        .to_owned();
    assert_eq!(read_back(&aws, &snapshot).await.len(), 60);
    assert_eq!(list(&aws).await.unwrap(), [image]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_is_lost_makes_no_second_image() {
    let Some(registry) = ImageRegistry::start() else {
        return;
    };
    let aws = connect(&registry).await;
    let folder = TempDir::new().unwrap();
    let path = disk(&folder, "disk.raw", &[1]);
    let registry = Arc::new(registry);
    let lost = AtomicUsize::new(0);
    let url = registry.url();
    // It takes effect by another connection, and this one breaks.
    registry.set_faults(move |request| {
        let is_first = request.text().contains("Action=RegisterImage")
            && !request.headers.iter().any(|(name, _)| name == "x-test-repeated")
            && lost.fetch_add(1, Ordering::SeqCst) == 0;
        if !is_first {
            return None;
        }
        let mut repeated = request.clone();
        repeated
            .headers
            .push(("x-test-repeated".to_owned(), "1".to_owned()));
        let server = url.trim_start_matches("http://").parse().unwrap();
        std::thread::spawn(move || peerpods_testkit::http::forward(&repeated, server));
        Some(HttpAnswer::HangUp)
    });
    let image = publish(&aws, &path, &quietly).await.unwrap();
    assert_eq!(list(&aws).await.unwrap(), [image]);
    assert!(registry.registrations().len() >= 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn images_are_copied_and_shared() {
    let Some(registry) = ImageRegistry::start() else {
        return;
    };
    let aws = connect(&registry).await;
    let folder = TempDir::new().unwrap();
    let image = publish(&aws, &disk(&folder, "disk.raw", &[1]), &quietly)
        .await
        .unwrap();
    let there = aws.in_region("us-east-1".parse().unwrap());
    let copied = copy(&image, &there).await.unwrap();
    assert_eq!(
        (copied.region.as_str(), &copied.digest),
        ("us-east-1", &image.digest)
    );
    assert_eq!(copy(&image, &there).await.unwrap(), copied);
    assert_eq!(list(&there).await.unwrap(), [copied]);

    share(&aws, &image.image_id, &["210987654321".to_owned()])
        .await
        .unwrap();
    let error = share(&aws, "ami-00000000000000000", &[]).await.unwrap_err();
    assert!(matches!(error, PublishError::UnknownImage { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_old_images_of_ours_are_removed() {
    let Some(registry) = ImageRegistry::start() else {
        return;
    };
    let aws = connect(&registry).await;
    let folder = TempDir::new().unwrap();
    let mut foreign = Parameters::new();
    foreign.set("Name", "somebody else's");
    let _: serde::de::IgnoredAny = aws.ec2().call(Action::RegisterImage, &foreign).await.unwrap();
    let mut images = Vec::new();
    for name in ["first", "second", "third", "fourth"] {
        images.push(
            publish(&aws, &disk(&folder, name, &[1, 2]), &quietly)
                .await
                .unwrap(),
        );
    }
    let all = list(&aws).await.unwrap();
    assert_eq!(all.len(), 4);
    let spared = [all[3].image_id.clone()];
    let told = prune(&aws, 1, &spared, true).await.unwrap();
    assert_eq!(list(&aws).await.unwrap().len(), 4);
    let removed = prune(&aws, 1, &spared, false).await.unwrap();
    assert_eq!(removed, told);
    let ids = |images: &[peerpods_image::publish::PublishedImage]| -> Vec<String> {
        images.iter().map(|image| image.image_id.clone()).collect()
    };
    assert_eq!(
        ids(&list(&aws).await.unwrap()),
        ids(&[all[0].clone(), all[3].clone()])
    );
    assert!(removed.iter().all(|pruned| pruned.snapshots.len() == 1));
    assert_eq!(prune(&aws, 1, &spared, false).await.unwrap(), []);

    let mut parameters = Parameters::new();
    parameters.set_filter(1, "name", ["somebody else's"]);
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Images {
        images_set: peerpods_aws::Items<serde::de::IgnoredAny>,
    }
    let left: Images = aws.ec2().call(Action::DescribeImages, &parameters).await.unwrap();
    assert_eq!(
        left.images_set.items.len(),
        1,
        "an image without {DIGEST_TAG} was removed"
    );
}

#[tokio::test]
async fn a_disk_that_changes_meanwhile_is_not_published() {
    let Some(registry) = ImageRegistry::start() else {
        return;
    };
    let aws = connect(&registry).await;
    let folder = TempDir::new().unwrap();
    let path = disk(&folder, "disk.raw", &[5]);
    let changed = path.clone();
    registry.set_faults(move |request| {
        if request.target == "/snapshots" {
            let file = File::options().write(true).open(&changed).unwrap();
            file.write_all_at(b"changed", 5 * BLOCK_BYTES as u64).unwrap();
        }
        None
    });
    let error = publish(&aws, &path, &quietly).await.unwrap_err();
    assert!(
        matches!(error, PublishError::DiskChanged { index: 5, .. }),
        "{error}"
    );
    assert_eq!(registry.registrations(), []);
}
