//! Signed calls to EC2 and to the EBS direct API, with the credentials that AWS programs find anywhere.
//!
//! A thin client and no SDK: the calls that this project makes are a dozen, and the generated crate for EC2 costs minutes
//! and gigabytes of every build. What is hard to get right is not written here: credentials and regions come from
//! `aws-config`, signatures from `aws-sigv4`, TLS from rustls.
//!
//! - [`Aws`] is one account in one region. Clones share its credentials, connections and request budget.
//! - [`Ec2`] speaks the Query API: [`Action`] and [`Parameters`] there, XML into a type that is read with serde back.
//! - [`Ebs`] speaks the EBS direct API: snapshots, block by block.
//! - [`Metadata`] is what the instance this runs on can tell.
//!
//! Every call is bounded in time, size and attempts by the limits of [`limits`], and each but
//! [`Action::AllocateAddress`] is safe to repeat: those that make something carry a client token. Refusals have a [`RefusalKind`], so that nobody compares texts.
//!
//! Endpoints are AWS's own, unless `AWS_ENDPOINT_URL`, `AWS_ENDPOINT_URL_EC2`, `AWS_ENDPOINT_URL_EBS` and
//! `AWS_EC2_METADATA_SERVICE_ENDPOINT`, or [`AwsSettings`], name others.

mod action;
mod aws;
mod budget;
mod credentials;
mod ebs;
mod ec2;
mod endpoint;
mod error;
mod exchange;
mod http_client;
pub mod limits;
mod metadata;
pub mod policy;
mod refusal;
mod settings;

pub use action::{Action, EbsAction};
pub use aws::Aws;
pub use ebs::{Ebs, EbsReply, EbsRequest};
pub use ec2::{Ec2, Items, Listed, Parameters, Tag};
pub use error::AwsError;
pub use metadata::Metadata;
pub use refusal::{ErrorCode, Refusal, RefusalKind};
pub use settings::{AwsSettings, InvalidRegion, Pace, Region, StaticCredentials};
