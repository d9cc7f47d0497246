//! What this provider asks of AWS.

use peerpods_aws::Action;

/// Every call that the provider makes; the policy for the nodes' role is written from it.
pub const ACTIONS: &[Action] = &[
    Action::RunInstances,
    Action::TerminateInstances,
    Action::DescribeInstances,
    Action::DescribeInstanceTypes,
    Action::DescribeSpotInstanceRequests,
    Action::DescribeImages,
    Action::GetConsoleOutput,
    Action::CreateTags,
    Action::AllocateAddress,
    Action::AssociateAddress,
    Action::DescribeAddresses,
    Action::ReleaseAddress,
];
