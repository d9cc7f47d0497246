//! The snapshot, block by block, by the EBS direct API.

use std::{fs::File, path::Path, sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use peerpods_aws::{Action, Aws, Ebs, EbsAction, EbsRequest, Listed, Parameters, RefusalKind};
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::time::{Instant, sleep};

use super::{
    Progress, PublishError,
    journal::{self, Journal},
    registry::{DIGEST_TAG, image_name},
};
use crate::{BLOCK_BYTES, Block, BlockList, read_block};

/// Blocks on their way at once: each takes some 50 ms, and EBS takes 1,000 a second of an account.
const BLOCKS_AT_ONCE: usize = 32;
/// How long EBS waits for the next block before it gives the snapshot up, in minutes: a night's interruption is resumed.
const TIMEOUT_MINUTES: u32 = 720;
const GIBIBYTE: u64 = 1 << 30;

/// How long EC2 may take to seal a snapshot of a few dozen MiB: seconds as a rule.
const COMPLETION_LIMIT: Duration = Duration::from_secs(900);
pub(super) const LOOK_INTERVAL: Duration = Duration::from_secs(2);

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Started {
    snapshot_id: String,
    block_size: usize,
}

/// Makes a complete snapshot of the disk, and answers its id.
pub(super) async fn write(
    aws: &Aws,
    disk: &Path,
    blocks: &BlockList,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<String, PublishError> {
    let digest = blocks.digest().to_string();
    let mut journal = Journal::open(disk, aws.region(), &digest, uuid::Uuid::new_v4().to_string())?;
    if let Some(known) = journal.snapshot.clone() {
        match state(aws, &known).await? {
            Some(state) if state == "completed" => return Ok(known),
            Some(state) if state == "pending" => {}
            // Given up or removed meanwhile.
            Some(_) | None => {
                journal::remove(disk, aws.region())?;
                journal = Journal::open(disk, aws.region(), &digest, uuid::Uuid::new_v4().to_string())?;
            }
        }
    }
    let ebs = aws.ebs();
    let snapshot = match journal.snapshot.clone() {
        Some(snapshot) => snapshot,
        None => {
            let snapshot = start(&ebs, &digest, &journal.token, blocks.disk_bytes()).await?;
            journal.set_snapshot(&snapshot)?;
            snapshot
        }
    };
    put_all(&ebs, &snapshot, disk, blocks, &mut journal, progress).await?;
    progress(Progress::Completing);
    complete(&ebs, &snapshot, blocks).await?;
    await_completion(aws, &snapshot).await?;
    Ok(snapshot)
}

async fn start(ebs: &Ebs, digest: &str, token: &str, disk_bytes: u64) -> Result<String, PublishError> {
    let body = json!({
        "VolumeSize": disk_bytes.div_ceil(GIBIBYTE),
        "Description": format!("peer pod VM, disk {digest}"),
        "ClientToken": token,
        "Timeout": TIMEOUT_MINUTES,
        "Tags": [
            {"Key": "Name", "Value": image_name(digest)},
            {"Key": DIGEST_TAG, "Value": digest},
        ],
    });
    let request = EbsRequest {
        action: EbsAction::StartSnapshot,
        path: "/snapshots".to_owned(),
        headers: Vec::new(),
        body: Bytes::from(body.to_string()),
    };
    let started: Started = ebs
        .call(request)
        .await
        .map_err(PublishError::aws("begin a snapshot"))?;
    // moto says 512, and means KiB.
    if started.block_size != BLOCK_BYTES && started.block_size != BLOCK_BYTES >> 10 {
        return Err(PublishError::Failed {
            what: "snapshot",
            id: started.snapshot_id,
            state: format!("its blocks have {} bytes, not {BLOCK_BYTES}", started.block_size),
        });
    }
    Ok(started.snapshot_id)
}

async fn put_all(
    ebs: &Ebs,
    snapshot: &str,
    disk: &Path,
    blocks: &BlockList,
    journal: &mut Journal,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<(), PublishError> {
    let unreadable = |source| crate::ImageError::Read {
        path: disk.to_owned(),
        source,
    };
    let file = Arc::new(File::open(disk).map_err(unreadable)?);
    let total = blocks.blocks().len();
    let left: Vec<Block> = blocks
        .blocks()
        .iter()
        .filter(|block| !journal.written.contains(&block.index))
        .cloned()
        .collect();
    let mut done = total - left.len();
    progress(Progress::Blocks { done, total });
    let puts = left
        .into_iter()
        .map(|block| put(ebs, snapshot, disk, file.clone(), block));
    let mut puts = stream::iter(puts).buffer_unordered(BLOCKS_AT_ONCE);
    while let Some(index) = puts.try_next().await? {
        journal.add_block(index)?;
        done += 1;
        progress(Progress::Blocks { done, total });
    }
    Ok(())
}

async fn put(
    ebs: &Ebs,
    snapshot: &str,
    disk: &Path,
    file: Arc<File>,
    block: Block,
) -> Result<u32, PublishError> {
    let index = block.index;
    let read = tokio::task::spawn_blocking(move || {
        let bytes = read_block(&file, index)?;
        let sha256: [u8; 32] = Sha256::digest(&bytes).into();
        Ok((bytes, sha256))
    });
    let read: std::io::Result<(Vec<u8>, [u8; 32])> = read.await.map_err(std::io::Error::other).flatten();
    let (bytes, sha256) = read.map_err(|source| crate::ImageError::Read {
        path: disk.to_owned(),
        source,
    })?;
    if sha256 != block.sha256 {
        return Err(PublishError::DiskChanged {
            path: disk.to_owned(),
            index,
        });
    }
    let request = EbsRequest {
        action: EbsAction::PutSnapshotBlock,
        path: format!("/snapshots/{snapshot}/blocks/{index}"),
        headers: headers([
            ("x-amz-data-length", BLOCK_BYTES.to_string()),
            ("x-amz-checksum", STANDARD.encode(sha256)),
            ("x-amz-checksum-algorithm", "SHA256".to_owned()),
        ]),
        body: bytes.into(),
    };
    ebs.send(request)
        .await
        .map_err(PublishError::aws("write a block of the snapshot"))?;
    Ok(index)
}

async fn complete(ebs: &Ebs, snapshot: &str, blocks: &BlockList) -> Result<(), PublishError> {
    let request = EbsRequest {
        action: EbsAction::CompleteSnapshot,
        path: format!("/snapshots/completion/{snapshot}"),
        headers: headers([
            ("x-amz-changedblockscount", blocks.blocks().len().to_string()),
            ("x-amz-checksum", STANDARD.encode(blocks.digest().0)),
            ("x-amz-checksum-algorithm", "SHA256".to_owned()),
            ("x-amz-checksum-aggregation-method", "LINEAR".to_owned()),
        ]),
        body: Bytes::new(),
    };
    ebs.send(request)
        .await
        .map_err(PublishError::aws("complete the snapshot"))?;
    Ok(())
}

fn headers<const N: usize>(pairs: [(&'static str, String); N]) -> Vec<(http::HeaderName, String)> {
    let named = pairs.map(|(name, value)| (http::HeaderName::from_static(name), value));
    named.into()
}

async fn await_completion(aws: &Aws, snapshot: &str) -> Result<(), PublishError> {
    let deadline = Instant::now() + COMPLETION_LIMIT;
    loop {
        match state(aws, snapshot).await? {
            Some(state) if state == "completed" => return Ok(()),
            Some(state) if state == "pending" => {}
            state => {
                return Err(PublishError::Failed {
                    what: "snapshot",
                    id: snapshot.to_owned(),
                    state: state.unwrap_or_else(|| "it is gone".to_owned()),
                });
            }
        }
        if Instant::now() >= deadline {
            return Err(PublishError::NotReady {
                what: "snapshot",
                id: snapshot.to_owned(),
                limit: COMPLETION_LIMIT,
            });
        }
        sleep(LOOK_INTERVAL).await;
    }
}

/// A snapshot, as DescribeSnapshots has it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Snapshot {
    pub(super) snapshot_id: String,
    pub(super) status: String,
}

impl Listed for Snapshot {
    const ACTION: Action = Action::DescribeSnapshots;
    const SET: &'static str = "snapshotSet";
}

/// The state of a snapshot; none where there is no such snapshot.
async fn state(aws: &Aws, snapshot: &str) -> Result<Option<String>, PublishError> {
    let mut parameters = Parameters::new();
    parameters.set_list("SnapshotId", [snapshot]);
    let listed = aws.ec2().list::<Snapshot>(&parameters).await;
    match listed {
        Ok(found) => Ok(found.into_iter().next().map(|found| found.status)),
        Err(error) if error.refusal() == Some(RefusalKind::NotFound) => Ok(None),
        Err(error) => Err(PublishError::aws("look at the snapshot")(error)),
    }
}

/// The account's own snapshots of disks with this digest.
pub(super) async fn of_digest(aws: &Aws, digest: &str) -> Result<Vec<Snapshot>, PublishError> {
    let mut parameters = Parameters::new();
    parameters
        .set_list("Owner", ["self"])
        .set_filter(1, format!("tag:{DIGEST_TAG}"), [digest]);
    let listed = aws.ec2().list::<Snapshot>(&parameters).await;
    listed.map_err(PublishError::aws("list the snapshots"))
}
