//! IAM policies, written from the calls that a program makes.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::{Action, EbsAction};

/// The tag that everything of this project's carries; its value is the cluster's id.
const CLUSTER_TAG: &str = "kata.peerpods.io/cluster";

/// What a launch touches of what is there already. Without conditions: none of it is this project's own.
const USED_BY_LAUNCHES: [&str; 11] = [
    "capacity-reservation",
    "image",
    "key-pair",
    "launch-template",
    "placement-group",
    "dedicated-host",
    "security-group",
    "snapshot",
    // What a launch of a spot instance leaves beside it; it ends with the instance.
    "spot-instances-request",
    "subnet",
    "group",
];

/// What a launch makes.
const MADE_BY_LAUNCHES: [&str; 3] = ["instance", "network-interface", "volume"];

/// What a publication makes, with tags from the beginning.
const MADE_BY_PUBLICATIONS: [&str; 2] = ["image", "snapshot"];

/// What VMs have beside that.
const ADDRESS: [&str; 1] = ["elastic-ip"];

/// On what an action is permitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Scope {
    /// Actions that only look, and know no resources.
    Look,
    /// Launches, of what carries a cluster's tag from the beginning.
    Launch,
    /// Elastic addresses, which carry a cluster's tag from the beginning.
    Allocate,
    /// What carries a cluster's tag.
    Ours,
    /// Images and snapshots, which are published for an account.
    Images,
    /// The tags that images and snapshots are made with: EC2 and EBS ask for the right to tag beside that to make. Without a
    /// condition: which action EBS names to EC2 as the maker of a snapshot is not documented.
    ImageTags,
}

impl Scope {
    fn of(action: Action) -> Self {
        match action {
            Action::DescribeInstances
            | Action::DescribeInstanceTypes
            | Action::DescribeSpotInstanceRequests
            | Action::DescribeAddresses
            | Action::DescribeImages
            | Action::DescribeSnapshots => Self::Look,
            Action::RunInstances => Self::Launch,
            Action::AllocateAddress => Self::Allocate,
            Action::TerminateInstances
            | Action::GetConsoleOutput
            | Action::CreateTags
            | Action::AssociateAddress
            | Action::ReleaseAddress => Self::Ours,
            Action::RegisterImage
            | Action::DeregisterImage
            | Action::CopyImage
            | Action::ModifyImageAttribute
            | Action::DeleteSnapshot
            | Action::ModifySnapshotAttribute => Self::Images,
        }
    }

    fn statements(self, actions: &BTreeSet<String>) -> Vec<Value> {
        match self {
            Self::Look => vec![json!({
                "Sid": "Look", "Effect": "Allow", "Action": actions, "Resource": "*",
            })],
            Self::Launch => vec![
                json!({
                    "Sid": "LaunchFrom", "Effect": "Allow", "Action": actions,
                    "Resource": arns(&USED_BY_LAUNCHES),
                }),
                with_tags("LaunchWithTags", actions, &MADE_BY_LAUNCHES),
                tags_of("TagLaunches", Action::RunInstances, &MADE_BY_LAUNCHES),
            ],
            Self::Allocate => vec![
                with_tags("AllocateWithTags", actions, &ADDRESS),
                tags_of("TagAddresses", Action::AllocateAddress, &ADDRESS),
            ],
            Self::Ours => vec![json!({
                "Sid": "Ours", "Effect": "Allow", "Action": actions,
                "Resource": arns(MADE_BY_LAUNCHES.iter().chain(&ADDRESS)),
                "Condition": {"StringLike": {format!("aws:ResourceTag/{CLUSTER_TAG}"): "*"}},
            })],
            Self::Images => vec![json!({
                "Sid": "Images", "Effect": "Allow", "Action": actions, "Resource": "*",
            })],
            Self::ImageTags => vec![json!({
                "Sid": "ImageTags", "Effect": "Allow", "Action": actions,
                "Resource": arns(&MADE_BY_PUBLICATIONS),
            })],
        }
    }
}

/// Permits what makes these, with a cluster's tag alone.
fn with_tags(sid: &str, actions: &BTreeSet<String>, made: &[&str]) -> Value {
    json!({
        "Sid": sid, "Effect": "Allow", "Action": actions, "Resource": arns(made),
        "Condition": {"StringLike": {format!("aws:RequestTag/{CLUSTER_TAG}"): "*"}},
    })
}

/// Permits the tags that `action` sets on what it makes.
fn tags_of(sid: &str, action: Action, made: &[&str]) -> Value {
    json!({
        "Sid": sid, "Effect": "Allow", "Action": ["ec2:CreateTags"], "Resource": arns(made),
        "Condition": {"StringEquals": {"ec2:CreateAction": action.name()}},
    })
}

fn arns<'a>(kinds: impl IntoIterator<Item = &'a &'a str>) -> Vec<String> {
    let arn = |kind: &&str| match *kind {
        "group" => "arn:*:resource-groups:*:*:group/*".to_owned(),
        kind => format!("arn:*:ec2:*:*:{kind}/*"),
    };
    kinds.into_iter().map(arn).collect()
}

/// The least that a program needs which makes these calls: an IAM policy document.
///
/// The right to tag what is made comes with the right to make it. Conditions have `*` where the cluster's id narrows them further. A role for VMs needs `iam:PassRole` beside it.
pub fn policy(actions: &[Action], ebs_actions: &[EbsAction]) -> Value {
    let mut scopes: BTreeMap<Scope, BTreeSet<String>> = BTreeMap::new();
    for action in actions {
        let named = scopes.entry(Scope::of(*action)).or_default();
        named.insert(format!("ec2:{}", action.name()));
    }
    let blocks = ebs_actions.iter().map(|action| format!("ebs:{}", action.name()));
    let images = scopes.entry(Scope::Images).or_default();
    images.extend(blocks);
    if actions.iter().any(|action| action.makes_image()) || ebs_actions.contains(&EbsAction::StartSnapshot) {
        let tag = format!("ec2:{}", Action::CreateTags.name());
        scopes.insert(Scope::ImageTags, BTreeSet::from([tag]));
    }
    let used = scopes.iter().filter(|(_, actions)| !actions.is_empty());
    let statements: Vec<Value> = used
        .flat_map(|(scope, actions)| scope.statements(actions))
        .collect();
    json!({"Version": "2012-10-17", "Statement": statements})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_call_is_permitted_and_no_other() {
        let calls = [
            Action::RunInstances,
            Action::TerminateInstances,
            Action::DescribeInstances,
        ];
        let document = policy(&calls, &[]).to_string();
        for call in calls {
            assert!(document.contains(&format!("\"ec2:{}\"", call.name())));
        }
        assert!(!document.contains("RegisterImage") && !document.contains("Sid\":\"Images"));
    }

    #[test]
    fn nothing_is_ended_or_changed_that_is_not_ours() {
        let document = policy(&[Action::TerminateInstances, Action::CreateTags], &[]);
        let statements = document["Statement"].as_array().unwrap();
        assert_eq!(statements.len(), 1);
        assert_eq!(
            statements[0]["Condition"]["StringLike"]["aws:ResourceTag/kata.peerpods.io/cluster"],
            "*"
        );
    }

    #[test]
    fn addresses_are_made_with_a_clusters_tag_and_used_by_it() {
        let document = policy(&[Action::AllocateAddress, Action::ReleaseAddress], &[]);
        let statements = document["Statement"].as_array().unwrap();
        let sids: Vec<&Value> = statements.iter().map(|statement| &statement["Sid"]).collect();
        assert_eq!(sids, ["AllocateWithTags", "TagAddresses", "Ours"]);
        for statement in statements {
            let resources = statement["Resource"].as_array().unwrap();
            assert!(
                resources.contains(&json!("arn:*:ec2:*:*:elastic-ip/*")),
                "{statement}"
            );
            assert!(statement["Condition"].is_object(), "{statement}");
        }
    }

    #[test]
    fn snapshots_are_written_block_by_block() {
        let document = policy(&[Action::RegisterImage], &[EbsAction::PutSnapshotBlock]);
        assert_eq!(
            document["Statement"][0]["Action"],
            json!(["ebs:PutSnapshotBlock", "ec2:RegisterImage"])
        );
    }

    #[test]
    fn who_makes_an_image_or_a_snapshot_may_tag_both_and_nothing_else() {
        let both = json!(["arn:*:ec2:*:*:image/*", "arn:*:ec2:*:*:snapshot/*"]);
        for document in [
            policy(&[Action::RegisterImage], &[]),
            policy(&[Action::CopyImage], &[]),
            policy(&[], &[EbsAction::StartSnapshot]),
        ] {
            let statement = &document["Statement"][1];
            assert_eq!(statement["Action"], json!(["ec2:CreateTags"]));
            assert_eq!(statement["Resource"], both);
        }
        let removal = policy(&[Action::DeregisterImage, Action::DeleteSnapshot], &[]).to_string();
        assert!(!removal.contains("CreateTags"), "{removal}");
    }
}
