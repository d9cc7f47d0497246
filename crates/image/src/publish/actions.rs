//! What a publication asks of AWS.

use peerpods_aws::{Action, EbsAction};

/// Every call to EC2 of [`publish`](super::publish); the policy of who publishes is written from it.
pub const ACTIONS: &[Action] = &[
    Action::DescribeImages,
    Action::DescribeSnapshots,
    Action::RegisterImage,
];

/// Every call to EBS of [`publish`](super::publish); the policy of who publishes is written from it.
pub const EBS_ACTIONS: &[EbsAction] = &[
    EbsAction::StartSnapshot,
    EbsAction::PutSnapshotBlock,
    EbsAction::CompleteSnapshot,
];
