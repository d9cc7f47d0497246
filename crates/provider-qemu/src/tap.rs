//! A VM's network device on the host: a tap that joins the bridge and vanishes with its QEMU process.

use std::fs::File;

use futures::TryStreamExt;
use rtnetlink::{Handle, LinkUnspec, new_connection};
use tokio::task::JoinHandle;

use crate::{error::QemuError, unsafe_tap};

/// Makes the tap `name` and joins it to `bridge`, both in this thread's network namespace.
pub(crate) async fn create(name: &str, bridge: &str, mtu: u32) -> Result<File, QemuError> {
    let netlink = Netlink::open(name)?;
    let bridge_index = netlink
        .index(bridge)
        .await?
        .ok_or_else(|| QemuError::NoBridge(bridge.to_owned()))?;
    let file = unsafe_tap::create(name).map_err(|source| QemuError::Tap {
        name: name.to_owned(),
        source,
    })?;
    let message = LinkUnspec::new_with_name(name)
        .mtu(mtu)
        .controller(bridge_index)
        .up()
        .build();
    netlink
        .handle
        .link()
        .set(message)
        .execute()
        .await
        .map_err(link_error("configure", name))?;
    Ok(file)
}

/// A netlink socket with the task that serves it.
struct Netlink {
    handle: Handle,
    connection: JoinHandle<()>,
}

impl Drop for Netlink {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Netlink {
    fn open(name: &str) -> Result<Self, QemuError> {
        let (connection, handle, _) = new_connection().map_err(|source| QemuError::Tap {
            name: name.to_owned(),
            source,
        })?;
        Ok(Self {
            handle,
            connection: tokio::spawn(connection),
        })
    }

    async fn index(&self, name: &str) -> Result<Option<u32>, QemuError> {
        let answer = self
            .handle
            .link()
            .get()
            .match_name(name)
            .execute()
            .try_next()
            .await;
        match answer {
            Ok(link) => Ok(link.map(|link| link.header.index)),
            Err(rtnetlink::Error::NetlinkError(error)) if is_no_device(&error) => Ok(None),
            Err(error) => Err(link_error("look up", name)(error)),
        }
    }
}

fn is_no_device(error: &rtnetlink::packet_core::ErrorMessage) -> bool {
    error.to_io().raw_os_error() == Some(rustix::io::Errno::NODEV.raw_os_error())
}

fn link_error(action: &'static str, name: &str) -> impl FnOnce(rtnetlink::Error) -> QemuError {
    let name = name.to_owned();
    move |source| QemuError::Link { action, name, source }
}
