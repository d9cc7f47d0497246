//! The machine that all this runs on, as a worker in the account: the metadata service tells it where it is.

use std::{collections::BTreeMap, io, net::IpAddr};

use super::{
    InstanceFacts, InterfaceFacts, REGION,
    account::Account,
    metadata::Metadata,
    xml::{first, values},
};

/// EC2 shows no such instance: nobody launched it.
const INSTANCE: &str = "i-0123456789abcdef0";
const INSTANCE_TYPE: &str = "m6a.xlarge";
const MAC: &str = "02:00:0a:fa:00:01";

/// What the worker is told: it is in that subnet and that security group of the account whose ids come first.
///
/// # Errors
/// The account has none.
pub(super) fn metadata(account: &Account, address: IpAddr) -> io::Result<Metadata> {
    let IpAddr::V4(private_ip) = address else {
        return Err(io::Error::other(format!("{address} is no address of a VPC's")));
    };
    let subnet = least(account, "DescribeSubnets", "subnetId")?;
    let group = least(account, "DescribeSecurityGroups", "groupId")?;
    let shown = account.ask(&[("Action", "DescribeSubnets"), ("SubnetId.1", &subnet)])?;
    let facts = InstanceFacts {
        instance_id: INSTANCE.to_owned(),
        image_id: "ami-0123456789abcdef0".to_owned(),
        instance_type: INSTANCE_TYPE.to_owned(),
        account_id: account.number().to_owned(),
        region: REGION.to_owned(),
        availability_zone: first(&shown, "availabilityZone")?,
        interfaces: vec![InterfaceFacts {
            private_ip,
            mac: MAC.to_owned(),
        }],
        user_data: None,
    };
    let interface = format!("network/interfaces/macs/{MAC}");
    let more = BTreeMap::from([
        (format!("{interface}/subnet-id"), subnet),
        (format!("{interface}/security-group-ids"), group),
    ]);
    Ok(Metadata::with(facts, more))
}

/// The id that comes first, by its letters.
fn least(account: &Account, action: &str, name: &str) -> io::Result<String> {
    let ids = values(&account.ask(&[("Action", action)])?, name);
    let least = ids.into_iter().min();
    least.ok_or_else(|| io::Error::other(format!("the account has no {name}")))
}
