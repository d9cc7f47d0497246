//! Elastic addresses as EC2 has them, beyond what moto does: a quota, a while in which a new one is not shown, and no way to give
//! up or to move one that is in use.

use std::time::{Duration, Instant};

use super::{
    account::Account,
    emulator::Request,
    xml::{refusal, values, without},
};
use crate::http::{HttpReply, HttpRequest};

/// The addresses of one account.
#[derive(Debug)]
pub(super) struct Addresses {
    account: Account,
    quota: Option<usize>,
    made: Vec<(String, Instant)>,
}

impl Addresses {
    pub(super) fn new(account: Account) -> Self {
        Self {
            account,
            quota: None,
            made: Vec::new(),
        }
    }

    /// From now on there are so many at most.
    pub(super) fn set_quota(&mut self, quota: usize) {
        self.quota = Some(quota);
    }

    /// All that there are.
    pub(super) fn all(&self) -> Vec<String> {
        self.those(None)
    }

    /// Those that have this tag.
    pub(super) fn with(&self, tag: &str, value: &str) -> Vec<String> {
        self.those(Some((&format!("tag:{tag}"), value)))
    }

    /// What comes of a request that concerns addresses; none where it does not. New ones are not shown for the time of
    /// `visibility`.
    pub(super) fn answer(
        &mut self,
        http: &HttpRequest,
        request: &Request,
        visibility: Duration,
    ) -> Option<HttpReply> {
        let allocation = request.parameter("AllocationId").unwrap_or_default();
        Some(match request.action.as_str() {
            "AllocateAddress" => self.allocate(http),
            "DescribeAddresses" => {
                let mut reply = self.account.forward(http);
                let hidden = self.hidden(visibility);
                let text = String::from_utf8_lossy(&reply.body);
                reply.body = without(&text, "addressesSet", "allocationId", &hidden).into_bytes();
                reply
            }
            "AssociateAddress" | "ReleaseAddress"
                if self.hidden(visibility).iter().any(|id| id == allocation) =>
            {
                refusal(400, "InvalidAllocationID.NotFound")
            }
            "AssociateAddress" => {
                let interface = request.parameter("NetworkInterfaceId").unwrap_or_default();
                let held = self.those(Some(("network-interface-id", interface)));
                if held.iter().any(|id| id != allocation) {
                    refusal(400, "Resource.AlreadyAssociated")
                } else {
                    self.account.forward(http)
                }
            }
            "ReleaseAddress" if self.association(("allocation-id", allocation)).is_some() => {
                refusal(400, "InvalidIPAddress.InUse")
            }
            "ReleaseAddress" => self.account.forward(http),
            _ => return None,
        })
    }

    /// An interface is gone: it has no address any more.
    pub(super) fn interface_is_gone(&self, interface: &str) {
        if let Some(association) = self.association(("network-interface-id", interface)) {
            let asked = [
                ("Action", "DisassociateAddress"),
                ("AssociationId", association.as_str()),
            ];
            self.account.ask(&asked).expect("moto takes an association back");
        }
    }

    fn allocate(&mut self, http: &HttpRequest) -> HttpReply {
        if self.quota.is_some_and(|quota| self.all().len() >= quota) {
            return refusal(400, "AddressLimitExceeded");
        }
        let reply = self.account.forward(http);
        let text = String::from_utf8_lossy(&reply.body);
        let made = values(&text, "allocationId").into_iter();
        self.made.extend(made.map(|id| (id, Instant::now())));
        reply
    }

    fn hidden(&self, visibility: Duration) -> Vec<String> {
        let new = self.made.iter().filter(|(_, made)| made.elapsed() < visibility);
        new.map(|(id, _)| id.clone()).collect()
    }

    fn those(&self, filter: Option<(&str, &str)>) -> Vec<String> {
        values(&self.describe(filter), "allocationId")
    }

    fn association(&self, filter: (&str, &str)) -> Option<String> {
        values(&self.describe(Some(filter)), "associationId").pop()
    }

    fn describe(&self, filter: Option<(&str, &str)>) -> String {
        let mut asked = vec![("Action", "DescribeAddresses")];
        if let Some((name, value)) = filter {
            asked.extend([("Filter.1.Name", name), ("Filter.1.Value.1", value)]);
        }
        self.account.ask(&asked).expect("moto lists addresses")
    }
}
