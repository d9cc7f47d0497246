//! The account in EC2, past everything of ours: as its owner sees it in AWS's console.

use std::collections::BTreeSet;

use base64::{Engine, prelude::BASE64_STANDARD};
use peerpods_testkit::{Bed, ec2::REGION};
use serde_json::{Value, json};

const URL: &str = "http://10.250.0.1:4566";

/// What there is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) subnets: Vec<String>,
    pub(crate) security_groups: Vec<String>,
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
        let told = get(bed, "account");
        let ids = |name: &str| {
            let all = told[name].as_array().expect("an account has lists").iter();
            all.map(|id| id.as_str().expect("ids are texts").to_owned())
                .collect()
        };
        Self {
            subnets: ids("subnets"),
            security_groups: ids("securityGroups"),
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

/// What is on an instance's console.
#[track_caller]
pub(crate) fn console(bed: &Bed, id: &str) -> String {
    let answer = ask(bed, &format!("Action=GetConsoleOutput&InstanceId={id}"));
    let output = texts(&answer, "output").into_iter().next().unwrap_or_default();
    let bytes = BASE64_STANDARD.decode(output).expect("EC2 gives it in base64");
    String::from_utf8_lossy(&bytes).into_owned()
}

/// All instances that were ever launched, as far as EC2 shows them.
#[track_caller]
pub(crate) fn launched(bed: &Bed) -> BTreeSet<String> {
    texts(&ask(bed, "Action=DescribeInstances"), "instanceId")
}

/// The images.
#[track_caller]
pub(crate) fn images(bed: &Bed) -> BTreeSet<String> {
    texts(&ask(bed, "Action=DescribeImages"), "imageId")
}

/// Removes an image with its snapshots, as `peerpodctl image prune` does; nobody has others here.
#[track_caller]
pub(crate) fn remove_image(bed: &Bed, id: &str) {
    ask(bed, &format!("Action=DeregisterImage&ImageId={id}"));
    for snapshot in Account::of(bed).snapshots {
        ask(bed, &format!("Action=DeleteSnapshot&SnapshotId={snapshot}"));
    }
}

/// Takes a spot instance back: EC2 says so now, and ends it after so many seconds.
#[track_caller]
pub(crate) fn interrupt(bed: &Bed, id: &str, seconds: u64) {
    post(
        bed,
        "interruptions",
        &json!({"instance": id, "seconds": seconds}).to_string(),
        &[],
    );
}

/// What goes wrong in EC2, until this goes out of scope.
pub(crate) struct Faults<'bed>(&'bed Bed);

impl<'bed> Faults<'bed> {
    /// Lets calls go wrong by these rules (`testkit/src/ec2/faults.rs`).
    #[track_caller]
    pub(crate) fn of(bed: &'bed Bed, rules: &Value) -> Self {
        post(bed, "faults", &rules.to_string(), &[]);
        Self(bed)
    }

    /// How often each has held.
    #[track_caller]
    pub(crate) fn struck(&self) -> Vec<u64> {
        let rules = get(self.0, "faults");
        let rules = rules.as_array().expect("faults are a list").iter();
        rules
            .map(|rule| rule["struck"].as_u64().expect("they are counted"))
            .collect()
    }
}

impl Drop for Faults<'_> {
    fn drop(&mut self) {
        post(self.0, "faults", "[]", &[]);
    }
}

/// The texts of all elements of this name.
fn texts(xml: &str, name: &str) -> BTreeSet<String> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let parts = xml.split(&open).skip(1);
    let found = parts.filter_map(|part| Some(part.split_once(&close)?.0.to_owned()));
    found.collect()
}

#[track_caller]
fn ask(bed: &Bed, query: &str) -> String {
    let scope = format!("Credential=AKIDTEST/20260101/{REGION}/ec2/aws4_request");
    let authorization =
        format!("Authorization: AWS4-HMAC-SHA256 {scope}, SignedHeaders=host, Signature=none");
    let form = format!("Version=2016-11-15&{query}");
    post(bed, "", &form, &["--header", &authorization])
}

#[track_caller]
fn get(bed: &Bed, path: &str) -> Value {
    let told = fetch(bed, path, &[]);
    serde_json::from_str(&told).expect("the emulator tells JSON")
}

#[track_caller]
fn post(bed: &Bed, path: &str, body: &str, options: &[&str]) -> String {
    fetch(bed, path, &[&["--post-data", body], options].concat())
}

#[track_caller]
fn fetch(bed: &Bed, path: &str, options: &[&str]) -> String {
    let fetch = ["busybox", "wget", "-q", "-O", "-"];
    let url = format!("{URL}/{path}");
    bed.enter(&[&fetch[..], options, &[&url]].concat()).text()
}
