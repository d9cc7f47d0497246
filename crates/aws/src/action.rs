//! Every call that this project makes to AWS. The IAM policies are written from these tables.

use crate::budget::Category;

/// A call of EC2's Query API. Repeating any of them is safe but [`Action::AllocateAddress`]: those that make something carry a
/// client token, or a name that must be unique.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// Launches instances.
    RunInstances,
    /// Ends instances.
    TerminateInstances,
    /// Lists instances.
    DescribeInstances,
    /// Sizes of instance types.
    DescribeInstanceTypes,
    /// Lists requests for spot instances.
    DescribeSpotInstanceRequests,
    /// The console of an instance.
    GetConsoleOutput,
    /// Changes tags.
    CreateTags,
    /// Makes an elastic address. It has no client token: who does not know what came of it looks for the address by its tags.
    AllocateAddress,
    /// Gives an interface an elastic address.
    AssociateAddress,
    /// Lists elastic addresses.
    DescribeAddresses,
    /// Gives an elastic address up.
    ReleaseAddress,
    /// Lists images.
    DescribeImages,
    /// Makes an image of a snapshot.
    RegisterImage,
    /// Removes an image.
    DeregisterImage,
    /// Copies an image from another region.
    CopyImage,
    /// Shares an image.
    ModifyImageAttribute,
    /// Lists snapshots.
    DescribeSnapshots,
    /// Removes a snapshot.
    DeleteSnapshot,
    /// Shares a snapshot.
    ModifySnapshotAttribute,
}

impl Action {
    /// The action's name in the API and, after `ec2:`, in policies.
    pub fn name(self) -> &'static str {
        match self {
            Self::RunInstances => "RunInstances",
            Self::TerminateInstances => "TerminateInstances",
            Self::DescribeInstances => "DescribeInstances",
            Self::DescribeInstanceTypes => "DescribeInstanceTypes",
            Self::DescribeSpotInstanceRequests => "DescribeSpotInstanceRequests",
            Self::GetConsoleOutput => "GetConsoleOutput",
            Self::CreateTags => "CreateTags",
            Self::AllocateAddress => "AllocateAddress",
            Self::AssociateAddress => "AssociateAddress",
            Self::DescribeAddresses => "DescribeAddresses",
            Self::ReleaseAddress => "ReleaseAddress",
            Self::DescribeImages => "DescribeImages",
            Self::RegisterImage => "RegisterImage",
            Self::DeregisterImage => "DeregisterImage",
            Self::CopyImage => "CopyImage",
            Self::ModifyImageAttribute => "ModifyImageAttribute",
            Self::DescribeSnapshots => "DescribeSnapshots",
            Self::DeleteSnapshot => "DeleteSnapshot",
            Self::ModifySnapshotAttribute => "ModifySnapshotAttribute",
        }
    }

    /// Whether it makes an image.
    pub(crate) fn makes_image(self) -> bool {
        matches!(self, Self::RegisterImage | Self::CopyImage)
    }

    /// Which of the account's request limits it counts against.
    pub(crate) fn category(self) -> Category {
        match self {
            Self::DescribeInstances
            | Self::DescribeInstanceTypes
            | Self::DescribeSpotInstanceRequests
            | Self::GetConsoleOutput
            | Self::DescribeAddresses
            | Self::DescribeImages
            | Self::DescribeSnapshots => Category::Describe,
            Self::RunInstances => Category::Launch,
            Self::CreateTags => Category::Tag,
            Self::TerminateInstances
            | Self::AllocateAddress
            | Self::AssociateAddress
            | Self::ReleaseAddress
            | Self::RegisterImage
            | Self::DeregisterImage
            | Self::CopyImage
            | Self::ModifyImageAttribute
            | Self::DeleteSnapshot
            | Self::ModifySnapshotAttribute => Category::Change,
        }
    }

    /// What a second one does when the first took effect.
    pub(crate) fn repetition(self) -> Repetition {
        match self {
            Self::AllocateAddress => Repetition::MakesAnother,
            Self::RunInstances
            | Self::TerminateInstances
            | Self::DescribeInstances
            | Self::DescribeInstanceTypes
            | Self::DescribeSpotInstanceRequests
            | Self::GetConsoleOutput
            | Self::CreateTags
            | Self::AssociateAddress
            | Self::DescribeAddresses
            | Self::ReleaseAddress
            | Self::DescribeImages
            | Self::RegisterImage
            | Self::DeregisterImage
            | Self::CopyImage
            | Self::ModifyImageAttribute
            | Self::DescribeSnapshots
            | Self::DeleteSnapshot
            | Self::ModifySnapshotAttribute => Repetition::Harmless,
        }
    }
}

/// What a call does when the same one took effect before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repetition {
    /// Nothing further.
    Harmless,
    /// Another one of what it makes.
    MakesAnother,
}

/// A call of the EBS direct API. Repeating any of them is safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EbsAction {
    /// Begins a snapshot; idempotent by its client token.
    StartSnapshot,
    /// Writes one block.
    PutSnapshotBlock,
    /// Seals a snapshot.
    CompleteSnapshot,
    /// Lists the blocks that a snapshot has.
    ListSnapshotBlocks,
    /// Reads one block.
    GetSnapshotBlock,
}

impl EbsAction {
    /// The action's name in the API and, after `ebs:`, in policies.
    pub fn name(self) -> &'static str {
        match self {
            Self::StartSnapshot => "StartSnapshot",
            Self::PutSnapshotBlock => "PutSnapshotBlock",
            Self::CompleteSnapshot => "CompleteSnapshot",
            Self::ListSnapshotBlocks => "ListSnapshotBlocks",
            Self::GetSnapshotBlock => "GetSnapshotBlock",
        }
    }

    pub(crate) fn method(self) -> http::Method {
        match self {
            Self::StartSnapshot | Self::CompleteSnapshot => http::Method::POST,
            Self::PutSnapshotBlock => http::Method::PUT,
            Self::ListSnapshotBlocks | Self::GetSnapshotBlock => http::Method::GET,
        }
    }

    pub(crate) fn category(self) -> Category {
        match self {
            Self::StartSnapshot | Self::CompleteSnapshot => Category::Change,
            Self::PutSnapshotBlock | Self::ListSnapshotBlocks | Self::GetSnapshotBlock => Category::Blocks,
        }
    }
}
