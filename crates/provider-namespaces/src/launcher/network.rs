//! The guest's network: a pair of devices, one on the node's bridge, one in the guest's namespace.

use futures::TryStreamExt;
use peerpods_provider_namespaces::LaunchOrder;
use rtnetlink::{Handle, LinkMessageBuilder, LinkUnspec, LinkVeth, new_connection};

use super::{error::LaunchError, unsafe_leave};

/// The guest takes its first Ethernet device, whatever its name.
const GUEST_DEVICE: &str = "eth0";

/// Leaves all namespaces; the new network namespace has a device that is connected with the bridge.
pub(crate) fn enter_connected_namespace(order: &LaunchOrder) -> Result<(), LaunchError> {
    // It runs on this thread: the process stays single-threaded, as leaving namespaces demands.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(LaunchError::system("start the runtime"))?;
    runtime.block_on(async {
        // The socket stays with the node's network, where it was made.
        let (connection, node, _) = new_connection().map_err(LaunchError::system("open a netlink socket"))?;
        let serving = tokio::spawn(connection);
        unsafe_leave::leave_namespaces().map_err(LaunchError::system("leave the node's namespaces"))?;
        let connected = connect(&node, order).await;
        serving.abort();
        connected
    })
}

async fn connect(node: &Handle, order: &LaunchOrder) -> Result<(), LaunchError> {
    let bridge = index(node, &order.bridge).await?;
    let peer = LinkMessageBuilder::<LinkUnspec>::new()
        .name(GUEST_DEVICE)
        .address(order.mac.to_vec())
        .mtu(order.mtu)
        .setns_by_pid(std::process::id())
        .build();
    let pair = LinkVeth::new(&order.device, GUEST_DEVICE)
        .set_info_data(rtnetlink::packet_route::link::InfoData::Veth(
            rtnetlink::packet_route::link::InfoVeth::Peer(peer),
        ))
        .mtu(order.mtu)
        .controller(bridge)
        .up()
        .build();
    let made = node.link().add(pair).execute().await;
    made.map_err(LaunchError::link("make", &order.device))
}

async fn index(node: &Handle, name: &str) -> Result<u32, LaunchError> {
    let mut found = node.link().get().match_name(name.to_owned()).execute();
    let link = found.try_next().await;
    let link = link.map_err(LaunchError::link("look up", name))?;
    link.map(|link| link.header.index)
        .ok_or_else(|| LaunchError::NoDevice(name.to_owned()))
}
