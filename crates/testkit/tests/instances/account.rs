//! The account in EC2, past everything of ours: as its owner sees it in AWS's console.

use peerpods_testkit::{Bed, ec2::REGION};
use serde_json::Value;

const URL: &str = "http://10.250.0.1:4566";

/// What there is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Account {
    /// Those that are not terminated.
    pub(crate) instances: Vec<String>,
    pub(crate) volumes: Vec<String>,
    pub(crate) interfaces: Vec<String>,
    /// Elastic ones.
    pub(crate) addresses: Vec<String>,
    pub(crate) snapshots: Vec<String>,
    /// How many machines run.
    pub(crate) machines: u64,
}

impl Account {
    /// What there is now.
    #[track_caller]
    pub(crate) fn of(bed: &Bed) -> Self {
        let told = bed
            .enter(&["busybox", "wget", "-q", "-O", "-", &format!("{URL}/account")])
            .text();
        let told: Value = serde_json::from_str(&told).expect("the emulator tells JSON");
        let ids = |name: &str| {
            let all = told[name].as_array().expect("an account has lists").iter();
            all.map(|id| id.as_str().expect("ids are texts").to_owned())
                .collect()
        };
        Self {
            instances: ids("instances"),
            volumes: ids("volumes"),
            interfaces: ids("interfaces"),
            addresses: ids("addresses"),
            snapshots: ids("snapshots"),
            machines: told["machines"].as_u64().expect("machines are counted"),
        }
    }
}

/// Ends an instance, as somebody with the account's keys does.
#[track_caller]
pub(crate) fn terminate(bed: &Bed, id: &str) {
    ask(bed, &format!("Action=TerminateInstances&InstanceId.1={id}"));
}

/// What EC2 tells of an instance.
#[track_caller]
pub(crate) fn describe(bed: &Bed, id: &str) -> String {
    ask(bed, &format!("Action=DescribeInstances&InstanceId.1={id}"))
}

fn ask(bed: &Bed, query: &str) -> String {
    let scope = format!("Credential=AKIDTEST/20260101/{REGION}/ec2/aws4_request");
    let authorization =
        format!("Authorization: AWS4-HMAC-SHA256 {scope}, SignedHeaders=host, Signature=none");
    let form = format!("Version=2016-11-15&{query}");
    bed.enter(&[
        "busybox",
        "wget",
        "-q",
        "-O",
        "-",
        "--header",
        &authorization,
        "--post-data",
        &form,
        URL,
    ])
    .text()
}
