//! A netlink connection in one network namespace, and the requests that both ends share.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::{AsRawFd, BorrowedFd},
    path::Path,
};

use futures::{StreamExt, TryStreamExt};
use rtnetlink::{
    Error, Handle, LinkMessageBuilder, LinkUnspec, LinkVxlan, RouteMessageBuilder,
    packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload},
    packet_route::{
        AddressFamily, RouteNetlinkMessage,
        address::{AddressAttribute, AddressFlags},
        link::{AfSpecInet6, AfSpecUnspec, In6AddrGenMode, LinkAttribute, LinkMessage},
        route::{RouteHeader, RouteMessage, RouteScope, RouteType},
        rule::RuleAction,
        tc::{TcAttribute, TcBpfFlags, TcFilterBpf, TcFilterBpfOption, TcHandle, TcMessage, TcOption},
    },
};
use rustix::io::Errno;
use tokio::runtime;

use super::{NetworkError, namespace};
use peerpods_proto::payload::IpNet;

/// The protocol field of a filter that takes every frame: ETH_P_ALL in network byte order.
const ALL_PROTOCOLS: u16 = 0x0003_u16.to_be();

/// Rules of this priority are asked after that of the local addresses, whose is 0, and before that of the main table.
const RULE_PRIORITY: u32 = 100;

/// Speaks to the kernel about one network namespace, whichever the caller's thread is in.
pub(super) struct Netlink {
    handle: Handle,
    connection: tokio::task::JoinHandle<()>,
}

impl Drop for Netlink {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

/// A network device.
#[derive(Clone, Debug)]
pub(super) struct Link {
    pub(super) index: u32,
    pub(super) name: String,
    pub(super) mac: Vec<u8>,
    pub(super) mtu: u32,
}

/// What a request was about, for its error.
struct Request<'subject> {
    action: &'static str,
    subject: &'subject str,
}

impl Request<'_> {
    fn failed(&self, error: Error) -> NetworkError {
        match error {
            Error::NetlinkError(message) => NetworkError::Refused {
                action: self.action,
                subject: self.subject.to_owned(),
                source: message.to_io(),
            },
            other => NetworkError::Protocol {
                action: self.action,
                subject: self.subject.to_owned(),
                cause: other.to_string(),
            },
        }
    }
}

impl Netlink {
    /// In the namespace of this process.
    pub(super) fn here() -> Result<Self, NetworkError> {
        let (connection, handle, _) = rtnetlink::new_connection().map_err(NetworkError::Socket)?;
        Ok(Self {
            handle,
            connection: tokio::spawn(connection),
        })
    }

    /// In another namespace: a socket belongs to the namespace of the thread that opened it.
    pub(super) fn inside(netns: &Path) -> Result<Self, NetworkError> {
        let runtime = runtime::Handle::current();
        let opened = namespace::run_inside(netns, || {
            let _entered = runtime.enter();
            rtnetlink::new_connection()
        })?;
        let (connection, handle, _) = opened.map_err(NetworkError::Socket)?;
        Ok(Self {
            handle,
            connection: tokio::spawn(connection),
        })
    }

    pub(super) fn handle(&self) -> &Handle {
        &self.handle
    }

    pub(super) async fn link(&self, name: &str) -> Result<Option<Link>, NetworkError> {
        let request = Request {
            action: "look for the device",
            subject: name,
        };
        let found = self
            .handle
            .link()
            .get()
            .match_name(name.to_owned())
            .execute()
            .try_next()
            .await;
        match found {
            Ok(found) => Ok(found.as_ref().and_then(read_link)),
            Err(error) => absent_is_none(request.failed(error)),
        }
    }

    pub(super) async fn links(&self) -> Result<Vec<LinkMessage>, NetworkError> {
        let request = Request {
            action: "list",
            subject: "the devices",
        };
        self.handle
            .link()
            .get()
            .execute()
            .try_collect()
            .await
            .map_err(|error| request.failed(error))
    }

    /// The routes of the main table.
    pub(super) async fn routes(&self, family: AddressFamily) -> Result<Vec<RouteMessage>, NetworkError> {
        let request = Request {
            action: "list",
            subject: "the routes",
        };
        let mut filter = RouteMessage::default();
        filter.header.address_family = family;
        let routes = self.handle.route().get(filter).execute();
        routes.try_collect().await.map_err(|error| request.failed(error))
    }

    pub(super) async fn delete_link(&self, index: u32, name: &str) -> Result<(), NetworkError> {
        let request = Request {
            action: "remove the device",
            subject: name,
        };
        let deleted = self.handle.link().del(index).execute().await;
        ignore(&[Errno::NODEV], deleted.map_err(|error| request.failed(error)))
    }

    pub(super) async fn add(
        &self,
        name: &str,
        action: &'static str,
        message: LinkMessage,
    ) -> Result<(), NetworkError> {
        let request = Request {
            action,
            subject: name,
        };
        let added = self.handle.link().add(message).execute().await;
        added.map_err(|error| request.failed(error))
    }

    /// Makes a unicast VXLAN device with nothing learned and nothing shared.
    pub(super) async fn add_vxlan(
        &self,
        name: &str,
        vni: u32,
        port: u16,
        remote: IpAddr,
    ) -> Result<Link, NetworkError> {
        let builder = LinkVxlan::new(name, vni).port(port).learning(false);
        let builder = match remote {
            IpAddr::V4(remote) => builder.remote(remote),
            IpAddr::V6(remote) => builder.remote6(remote),
        };
        match self.add(name, "make the tunnel device", builder.build()).await {
            Err(error) if is(&error, Errno::EXIST) => Err(NetworkError::VniInUse(vni)),
            Err(error) => Err(error),
            Ok(()) => self.link(name).await?.ok_or(NetworkError::VniInUse(vni)),
        }
    }

    /// Keeps the kernel from giving a device an address of its own, and so from speaking there for itself. A device that
    /// is moved to another namespace forgets it.
    pub(super) async fn have_no_addresses(&self, link: &Link) -> Result<(), NetworkError> {
        let none = AfSpecInet6::AddrGenMode(In6AddrGenMode::None);
        let attribute = LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![none])]);
        let message = device(link.index).append_extra_attribute(attribute);
        let changed = self.change(&link.name, "keep addresses from the device", message);
        // A kernel without IPv6 gives none.
        ignore(&[Errno::AFNOSUPPORT, Errno::OPNOTSUPP], changed.await)
    }

    pub(super) async fn change(
        &self,
        name: &str,
        action: &'static str,
        message: LinkMessageBuilder<LinkUnspec>,
    ) -> Result<(), NetworkError> {
        let request = Request {
            action,
            subject: name,
        };
        self.handle
            .link()
            .change(message.build())
            .execute()
            .await
            .map_err(|error| request.failed(error))
    }

    /// Adds an address without the route that the kernel would add to it.
    pub(super) async fn add_address(&self, link: &Link, net: IpNet) -> Result<(), NetworkError> {
        let subject = format!("{net} to {}", link.name);
        let request = Request {
            action: "add the address",
            subject: &subject,
        };
        let mut add = self
            .handle
            .address()
            .add(link.index, net.address, net.prefix)
            .replace();
        let flags = AddressFlags::Noprefixroute | AddressFlags::Nodad;
        add.message_mut().attributes.push(AddressAttribute::Flags(flags));
        add.execute().await.map_err(|error| request.failed(error))
    }

    /// Takes all addresses of a device away.
    pub(super) async fn remove_addresses(&self, link: &Link) -> Result<(), NetworkError> {
        let request = Request {
            action: "remove the addresses of",
            subject: &link.name,
        };
        let listed = self
            .handle
            .address()
            .get()
            .set_link_index_filter(link.index)
            .execute();
        let listed: Vec<_> = listed
            .try_collect()
            .await
            .map_err(|error| request.failed(error))?;
        for address in listed {
            let removed = self.handle.address().del(address).execute().await;
            removed.map_err(|error| request.failed(error))?;
        }
        Ok(())
    }

    /// Adds a route, or replaces the one to the same destination.
    pub(super) async fn add_route(
        &self,
        link: &Link,
        destination: Option<IpNet>,
        gateway: Option<IpAddr>,
    ) -> Result<(), NetworkError> {
        let main = RouteHeader::RT_TABLE_MAIN.into();
        self.add_route_to(main, link, destination, gateway).await
    }

    /// As [`Netlink::add_route`], in the table of this number.
    pub(super) async fn add_route_to(
        &self,
        table: u32,
        link: &Link,
        destination: Option<IpNet>,
        gateway: Option<IpAddr>,
    ) -> Result<(), NetworkError> {
        let target = destination.map_or_else(|| "default".to_owned(), |net| net.to_string());
        let subject = format!("to {target} over {}", link.name);
        let request = Request {
            action: "add the route",
            subject: &subject,
        };
        let mixed = || NetworkError::MixedFamilies(format!("the route {subject}"));
        let mut builder = RouteMessageBuilder::<IpAddr>::new()
            .table_id(table)
            .output_interface(link.index);
        if let Some(net) = destination.or_else(|| gateway.map(everything_of)) {
            builder = builder
                .destination_prefix(net.network(), net.prefix)
                .map_err(|_| mixed())?;
        }
        builder = match gateway {
            Some(gateway) => builder.gateway(gateway).map_err(|_| mixed())?.onlink(),
            None => builder.scope(RouteScope::Link),
        };
        let add = self.handle.route().add(builder.build()).replace();
        add.execute().await.map_err(|error| request.failed(error))
    }

    /// Has what is sent from `source` go by the routes of this table, before the main one is asked.
    pub(super) async fn add_rule(&self, source: Ipv4Addr, table: u32) -> Result<(), NetworkError> {
        let subject = format!("of what comes from {source}");
        let request = Request {
            action: "add the rule",
            subject: &subject,
        };
        let rule = self.handle.rule().add().v4().source_prefix(source, 32);
        let rule = rule.table_id(table).priority(RULE_PRIORITY);
        let added = rule.action(RuleAction::ToTable).execute().await;
        ignore(&[Errno::EXIST], added.map_err(|error| request.failed(error)))
    }

    /// Makes whatever is sent to a destination fail at once.
    pub(super) async fn prohibit(&self, destination: IpNet) -> Result<(), NetworkError> {
        let subject = format!("to {destination}");
        let request = Request {
            action: "close the way",
            subject: &subject,
        };
        let add = self.handle.route().add(prohibition(destination)?).replace();
        add.execute().await.map_err(|error| request.failed(error))
    }

    /// Takes that back.
    pub(super) async fn permit(&self, destination: IpNet) -> Result<(), NetworkError> {
        let subject = format!("to {destination}");
        let request = Request {
            action: "open the way",
            subject: &subject,
        };
        let delete = self.handle.route().del(prohibition(destination)?);
        delete.execute().await.map_err(|error| request.failed(error))
    }

    /// Sends everything that arrives at one device out of another.
    pub(super) async fn redirect(&self, from: &Link, to: &Link) -> Result<(), NetworkError> {
        let subject = format!("from {} to {}", from.name, to.name);
        let request = Request {
            action: "redirect traffic",
            subject: &subject,
        };
        let index = i32::try_from(from.index).expect("the kernel's device numbers are positive ints");
        let qdisc = self.handle.qdisc().add(index).ingress().execute().await;
        ignore(&[Errno::EXIST], qdisc.map_err(|error| request.failed(error)))?;
        let present = self
            .handle
            .traffic_filter(index)
            .get()
            .ingress()
            .execute()
            .try_next()
            .await;
        if present.map_err(|error| request.failed(error))?.is_some() {
            return Ok(());
        }
        let filter = self
            .handle
            .traffic_filter(index)
            .add()
            .ingress()
            .protocol(ALL_PROTOCOLS)
            .redirect(to.index);
        let filter = filter.map_err(|error| request.failed(error))?;
        filter.execute().await.map_err(|error| request.failed(error))
    }

    /// Has a loaded program decide on every packet that a device receives and sends. It stays as long as the device does.
    pub(super) async fn filter(
        &self,
        link: &Link,
        program: BorrowedFd<'_>,
        name: &str,
    ) -> Result<(), NetworkError> {
        let index = i32::try_from(link.index).expect("the kernel's device numbers are positive ints");
        let descriptor = u32::try_from(program.as_raw_fd()).expect("an open descriptor is not negative");
        let mut discipline = TcMessage::with_index(index);
        discipline.header.parent = TcHandle::CLSACT;
        discipline.header.handle.major = TcHandle::CLSACT.major;
        discipline.attributes = vec![TcAttribute::Kind("clsact".to_owned())];
        let discipline = RouteNetlinkMessage::NewQueueDiscipline(discipline);
        self.make(discipline, "prepare filters of", &link.name).await?;
        for hook in [TcHandle::MIN_INGRESS, TcHandle::MIN_EGRESS] {
            let mut filter = TcMessage::with_index(index);
            filter.header.parent = TcHandle {
                major: TcHandle::CLSACT.major,
                minor: hook,
            };
            filter.header.info = u32::from(ALL_PROTOCOLS);
            filter.attributes = vec![
                TcAttribute::Kind(TcFilterBpf::KIND.to_owned()),
                TcAttribute::Options(vec![
                    TcOption::Bpf(TcFilterBpfOption::ProgFd(descriptor)),
                    TcOption::Bpf(TcFilterBpfOption::ProgName(name.to_owned())),
                    TcOption::Bpf(TcFilterBpfOption::Flags(TcBpfFlags::DirectAction)),
                ]),
            ];
            let filter = RouteNetlinkMessage::NewTrafficFilter(filter);
            self.make(filter, "filter the packets of", &link.name).await?;
        }
        Ok(())
    }

    /// Makes something for which there is no request of its own.
    async fn make(
        &self,
        message: RouteNetlinkMessage,
        action: &'static str,
        subject: &str,
    ) -> Result<(), NetworkError> {
        let request = Request { action, subject };
        let mut message = NetlinkMessage::from(message);
        message.header.flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
        let mut handle = self.handle.clone();
        let mut answers = handle.request(message).map_err(|error| request.failed(error))?;
        while let Some(answer) = answers.next().await {
            match answer.payload {
                NetlinkPayload::Error(error) if error.code.is_some() => {
                    return Err(request.failed(Error::NetlinkError(error)));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Ends the redirection of what arrives at a device.
    pub(super) async fn end_redirect(&self, from: &Link) -> Result<(), NetworkError> {
        let request = Request {
            action: "end the redirection from",
            subject: &from.name,
        };
        let index = i32::try_from(from.index).expect("the kernel's device numbers are positive ints");
        let mut message = rtnetlink::packet_route::tc::TcMessage::with_index(index);
        message.header.parent = rtnetlink::packet_route::tc::TcHandle::INGRESS;
        let mut delete = self.handle.qdisc().del(index);
        *delete.message_mut() = message;
        let deleted = delete.execute().await.map_err(|error| request.failed(error));
        ignore(&[Errno::NOENT, Errno::INVAL, Errno::NODEV], deleted)
    }
}

/// The destination of a default route in the gateway's family.
fn everything_of(gateway: IpAddr) -> IpNet {
    let address = match gateway {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    IpNet { address, prefix: 0 }
}

/// What this project uses of a device; nothing without a name.
pub(super) fn read_link(message: &LinkMessage) -> Option<Link> {
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        mac: Vec::new(),
        mtu: 0,
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Address(mac) => link.mac.clone_from(mac),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            _ => {}
        }
    }
    (!link.name.is_empty()).then_some(link)
}

pub(super) fn is(error: &NetworkError, errno: Errno) -> bool {
    matches!(error, NetworkError::Refused { source, .. } if source.raw_os_error() == Some(errno.raw_os_error()))
}

/// Takes answers that mean "it is so already" as success.
fn ignore(errnos: &[Errno], result: Result<(), NetworkError>) -> Result<(), NetworkError> {
    match result {
        Err(error) if errnos.iter().any(|errno| is(&error, *errno)) => Ok(()),
        result => result,
    }
}

fn absent_is_none(error: NetworkError) -> Result<Option<Link>, NetworkError> {
    if is(&error, Errno::NODEV) {
        Ok(None)
    } else {
        Err(error)
    }
}

/// The beginning of a change of one device.
fn prohibition(destination: IpNet) -> Result<RouteMessage, NetworkError> {
    let builder = RouteMessageBuilder::<IpAddr>::new()
        .destination_prefix(destination.network(), destination.prefix)
        .map_err(|_| NetworkError::MixedFamilies(format!("the route to {destination}")))?
        .kind(RouteType::Prohibit);
    Ok(builder.build())
}

pub(super) fn device(index: u32) -> LinkMessageBuilder<LinkUnspec> {
    LinkUnspec::new_with_index(index)
}
