//! Elastic addresses: public ones that EC2 makes when it is asked, and keeps until it is told.
//!
//! Each is for one interface of one instance, and says so in tags that it has from its beginning: the call that makes one has no
//! client token, so that whoever does not know what came of it has to look.

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use peerpods_aws::{Action, Items, Listed, Tag};
use peerpods_provider::InstanceId;
use serde::Deserialize;
use tokio::time::Instant;

use crate::{
    answers::AttachedInterface,
    tags::{self, INSTANCE, INSTANCE_FILTER, INTERFACE},
    watch::View,
};

/// An elastic address as EC2 shows it.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AddressView {
    pub(crate) allocation_id: String,
    pub(crate) public_ip: Ipv4Addr,
    /// None, or an empty text, while no interface has it.
    network_interface_id: Option<String>,
    #[serde(default)]
    tag_set: Items<Tag>,
}

impl Listed for AddressView {
    const ACTION: Action = Action::DescribeAddresses;
    const SET: &'static str = "addressesSet";
}

impl AddressView {
    /// The instance that it was made for.
    pub(crate) fn instance(&self) -> Option<InstanceId> {
        tags::value(&self.tag_set.items, INSTANCE).map(InstanceId::new)
    }

    /// The interface that has it.
    pub(crate) fn interface(&self) -> Option<&str> {
        self.network_interface_id.as_deref().filter(|id| !id.is_empty())
    }

    fn is_for(&self, interface: &AttachedInterface) -> bool {
        let number = tags::value(&self.tag_set.items, INTERFACE);
        number.is_some_and(|number| number.parse() == Ok(interface.attachment.device_index))
    }
}

/// The answer to AllocateAddress.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Allocated {
    pub(crate) allocation_id: String,
    pub(crate) public_ip: Ipv4Addr,
}

/// The elastic addresses of one instance.
#[derive(Clone, Debug, Default)]
pub(crate) struct ElasticAddresses(pub(crate) Vec<AddressView>);

impl View for ElasticAddresses {
    type Entry = AddressView;
    const FILTER: &'static str = INSTANCE_FILTER;

    fn by_instance(addresses: Vec<AddressView>) -> BTreeMap<InstanceId, Self> {
        let mut all: BTreeMap<InstanceId, Self> = BTreeMap::new();
        for address in addresses {
            if let Some(id) = address.instance() {
                all.entry(id).or_default().0.push(address);
            }
        }
        all
    }
}

/// What there is for one interface.
#[derive(Debug)]
pub(crate) enum Held<'a> {
    /// It has this address.
    Associated(&'a AddressView),
    /// This one was made for it.
    Made(&'a AddressView),
    Nothing,
}

/// What there is for all interfaces of an instance.
#[derive(Debug)]
pub(crate) struct Holdings<'a> {
    pub(crate) interfaces: Vec<(&'a AttachedInterface, Held<'a>)>,
    /// Made for an interface that has another one, or will have: by a call whose answer was lost.
    pub(crate) surplus: Vec<&'a AddressView>,
}

impl ElasticAddresses {
    /// Sorts the addresses by these interfaces. Whoever does so comes to the same, in whatever order EC2 shows them.
    pub(crate) fn held_by<'a>(&'a self, interfaces: &'a [AttachedInterface]) -> Holdings<'a> {
        let mut surplus = Vec::new();
        let held = interfaces.iter().map(|interface| {
            let of_this = self.0.iter().filter(|address| address.is_for(interface));
            let (has, mut free): (Vec<_>, Vec<_>) =
                of_this.partition(|address| address.interface().is_some());
            free.sort_by_key(|address| &address.allocation_id);
            let has = has
                .into_iter()
                .find(|address| address.interface() == Some(&interface.network_interface_id));
            let held = match has {
                Some(address) => Held::Associated(address),
                None if free.is_empty() => Held::Nothing,
                None => Held::Made(free.remove(0)),
            };
            surplus.append(&mut free);
            (interface, held)
        });
        Holdings {
            interfaces: held.collect(),
            surplus,
        }
    }
}

impl Holdings<'_> {
    /// Whether each interface has an address, or one that was made for it.
    pub(crate) fn is_complete(&self) -> bool {
        let nothing = |(_, held): &(_, Held<'_>)| matches!(held, Held::Nothing);
        !self.interfaces.iter().any(nothing)
    }
}

/// When this process last asked for an address, instance by instance: EC2 may not show yet what came of it. What a process
/// before this one asked for it asked for before this one started.
#[derive(Debug)]
pub(crate) struct Requests {
    started: Instant,
    visibility: Duration,
    asked: Mutex<BTreeMap<InstanceId, Instant>>,
}

impl Requests {
    pub(crate) fn new(visibility: Duration) -> Self {
        Self {
            started: Instant::now(),
            visibility,
            asked: Mutex::default(),
        }
    }

    /// One is asked for now.
    pub(crate) fn note(&self, id: &InstanceId) {
        let mut asked = self.asked();
        // Of those EC2 shows by now nobody has to know any more.
        asked.retain(|_, at| at.elapsed() < self.visibility);
        asked.insert(id.clone(), Instant::now());
    }

    /// Whether EC2 showed all addresses of the instance at that moment.
    pub(crate) fn were_visible(&self, id: &InstanceId, at: Instant) -> bool {
        let last = self.asked().get(id).copied().unwrap_or(self.started);
        at.saturating_duration_since(last) >= self.visibility
    }

    fn asked(&self) -> MutexGuard<'_, BTreeMap<InstanceId, Instant>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answers::Attachment;

    fn interfaces() -> Vec<AttachedInterface> {
        let interface = |device_index| AttachedInterface {
            network_interface_id: format!("eni-{device_index}"),
            attachment: Attachment { device_index },
        };
        vec![interface(0), interface(1)]
    }

    fn address(name: &str, made_for: u32, interface: &str) -> AddressView {
        let tag = |key: &str, value: String| Tag {
            key: key.to_owned(),
            value,
        };
        AddressView {
            allocation_id: name.to_owned(),
            public_ip: Ipv4Addr::new(198, 51, 100, 1),
            network_interface_id: Some(interface.to_owned()),
            tag_set: Items {
                items: vec![
                    tag(INSTANCE, "i-1".to_owned()),
                    tag(INTERFACE, made_for.to_string()),
                ],
            },
        }
    }

    /// What each interface holds, and what is too much.
    fn sorted(addresses: Vec<AddressView>) -> (Vec<String>, Vec<String>) {
        let (interfaces, addresses) = (interfaces(), ElasticAddresses(addresses));
        let holdings = addresses.held_by(&interfaces);
        let name = |held: &Held<'_>| match held {
            Held::Associated(address) => format!("has {}", address.allocation_id),
            Held::Made(address) => format!("gets {}", address.allocation_id),
            Held::Nothing => "nothing".to_owned(),
        };
        let held: Vec<String> = holdings.interfaces.iter().map(|(_, held)| name(held)).collect();
        assert_eq!(holdings.is_complete(), !held.contains(&"nothing".to_owned()));
        let surplus = holdings.surplus.iter();
        (
            held,
            surplus.map(|address| address.allocation_id.clone()).collect(),
        )
    }

    #[test]
    fn each_interface_gets_the_address_that_was_made_for_it() {
        assert_eq!(
            sorted(Vec::new()),
            (vec!["nothing".into(), "nothing".into()], Vec::new())
        );
        let some = vec![address("a", 1, ""), address("b", 0, "eni-0")];
        assert_eq!(sorted(some), (vec!["has b".into(), "gets a".into()], Vec::new()));
    }

    #[test]
    fn what_was_made_twice_is_too_much_once() {
        let some = vec![address("b", 0, ""), address("a", 0, ""), address("c", 1, "")];
        assert_eq!(
            sorted(some),
            (vec!["gets a".into(), "gets c".into()], vec!["b".into()])
        );
        let some = vec![address("a", 0, ""), address("b", 0, "eni-0"), address("c", 1, "")];
        assert_eq!(
            sorted(some),
            (vec!["has b".into(), "gets c".into()], vec!["a".into()])
        );
    }

    #[test]
    fn addresses_are_their_instances() {
        let mut other = address("b", 0, "");
        other.tag_set.items[0].value = "i-2".to_owned();
        let strange = AddressView {
            tag_set: Items::default(),
            ..address("c", 0, "")
        };
        let all =
            ElasticAddresses::by_instance(vec![address("a", 0, ""), other, strange, address("d", 1, "")]);
        let counts: Vec<usize> = all.values().map(|addresses| addresses.0.len()).collect();
        assert_eq!(counts, [2, 1]);
    }

    #[test]
    fn what_was_asked_for_lately_may_not_be_shown() {
        let id = InstanceId::new("i-1");
        let hour = Duration::from_secs(3600);
        let requests = Requests::new(hour);
        assert!(
            !requests.were_visible(&id, requests.started),
            "a process before this one may have asked"
        );
        assert!(requests.were_visible(&id, requests.started + hour));
        requests.note(&id);
        assert!(!requests.were_visible(&id, requests.started + hour));
        assert!(requests.were_visible(&id, Instant::now() + hour));
    }
}
