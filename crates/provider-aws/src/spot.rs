//! What EC2 says of taking a spot instance back.
//!
//! It says so in the status of the request that the instance was launched by, while the instance still runs for two minutes.
//! One that ends at an interruption, as ours do, goes from `fulfilled` to `instance-terminated-no-capacity` at once; only others
//! are `marked-for-termination` first. Other causes have other codes: all count but that of an end that somebody asked for.

use std::collections::BTreeMap;

use peerpods_aws::{Action, Listed};
use peerpods_provider::InstanceId;
use serde::Deserialize;

use crate::watch::View;

/// The request behind a spot instance, as EC2 shows it.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SpotRequestView {
    /// There as soon as there is an instance; only such requests are asked for.
    #[serde(default)]
    instance_id: String,
    status: Status,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    code: String,
    /// When it became so.
    update_time: Option<String>,
}

impl Listed for SpotRequestView {
    const ACTION: Action = Action::DescribeSpotInstanceRequests;
    const SET: &'static str = "spotInstanceRequestSet";
}

impl View for SpotRequestView {
    type Entry = Self;
    const FILTER: &'static str = "instance-id";

    fn by_instance(requests: Vec<Self>) -> BTreeMap<InstanceId, Self> {
        let requests = requests.into_iter();
        requests
            .map(|request| (InstanceId::new(&request.instance_id), request))
            .collect()
    }
}

impl SpotRequestView {
    /// That EC2 takes the instance back and when, where it does.
    pub(crate) fn interruption(&self) -> Option<String> {
        let Status { code, update_time } = &self.status;
        let is_taken = match code.strip_prefix("instance-terminated-") {
            Some(cause) => cause != "by-user",
            None => code == "marked-for-termination",
        };
        is_taken.then(|| match update_time {
            Some(time) => format!("EC2 takes the spot instance back within two minutes of {time} ({code})"),
            None => format!("EC2 takes the spot instance back within two minutes ({code})"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(code: &str) -> Option<String> {
        let status = Status {
            code: code.to_owned(),
            update_time: Some("2026-11-25T15:00:00.000Z".to_owned()),
        };
        let view = SpotRequestView {
            instance_id: "i-1".to_owned(),
            status,
        };
        view.interruption()
    }

    #[test]
    fn an_interruption_is_told_and_an_end_that_was_asked_for_is_none() {
        assert_eq!(
            said("instance-terminated-no-capacity").unwrap(),
            "EC2 takes the spot instance back within two minutes of 2026-11-25T15:00:00.000Z \
             (instance-terminated-no-capacity)"
        );
        for code in ["marked-for-termination", "instance-terminated-by-price"] {
            assert!(said(code).unwrap().contains(code));
        }
        for code in [
            "fulfilled",
            "instance-terminated-by-user",
            "spot-instance-terminated-by-user",
            "request-canceled-and-instance-running",
        ] {
            assert_eq!(said(code), None);
        }
    }
}
