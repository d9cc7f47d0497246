//! The subnet of one instance, in the network namespace of the test: a tap device for its interface, and a DHCP server that
//! gives it the one address that is its own, as EC2 does. Instances of one network have a device each, so what they send one
//! another goes by way of this side.

use std::{
    fs,
    io::{self, Write},
    net::Ipv4Addr,
    path::Path,
    process::{Child, Command, Stdio},
};

/// The MTU of every VPC.
const MTU: u32 = 9001;
/// EC2's leases, in seconds.
const LEASE_SECONDS: u32 = 3600;

/// Where an instance's interface goes, and what it is told.
#[derive(Clone, Copy, Debug)]
pub struct SubnetSettings<'a> {
    /// The name of the device on this side.
    pub device: &'a str,
    /// The instance's address.
    pub instance: Ipv4Addr,
    /// Its hardware address.
    pub mac: &'a str,
    /// The address of this side: the router.
    pub router: Ipv4Addr,
    /// The length of the network's prefix.
    pub prefix: u8,
}

/// A subnet that serves addresses until it is dropped. A device that it made goes with it.
pub struct Subnet {
    server: Child,
    made: Option<String>,
}

impl Subnet {
    /// Makes the device, and serves on it.
    ///
    /// # Errors
    /// `ip` or busybox's `udhcpd` is missing or refuses.
    pub fn start(folder: &Path, settings: SubnetSettings<'_>) -> io::Result<Self> {
        ip(&["tuntap", "add", settings.device, "mode", "tap"])?;
        let mut subnet = Self::start_on(folder, settings)?;
        subnet.made = Some(settings.device.to_owned());
        Ok(subnet)
    }

    /// Gives a device that is there the addresses of the router and of EC2's services, and starts the server.
    ///
    /// # Errors
    /// As [`Subnet::start`].
    pub fn start_on(folder: &Path, settings: SubnetSettings<'_>) -> io::Result<Self> {
        let router = format!("{}/32", settings.router);
        let instance = format!("{}/32", settings.instance);
        let device = settings.device;
        ip(&["link", "set", "lo", "up"])?;
        ip(&["address", "add", &router, "dev", device])?;
        for service in [super::METADATA_ADDRESS, super::TIME_ADDRESS] {
            ip(&["address", "add", &format!("{service}/32"), "dev", device])?;
        }
        ip(&["link", "set", device, "mtu", &MTU.to_string(), "up"])?;
        ip(&["route", "add", &instance, "dev", device])?;
        let file = folder.join(format!("udhcpd-{device}.conf"));
        fs::File::create(&file)?.write_all(configuration(folder, settings).as_bytes())?;
        let server = Command::new("busybox")
            .args(["udhcpd", "-f", "-a", "1"])
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(folder.join(format!("udhcpd-{device}.log")))?)
            .spawn()?;
        Ok(Self { server, made: None })
    }
}

impl Drop for Subnet {
    fn drop(&mut self) {
        // One that has ended is as good.
        let _ = self.server.kill();
        let _ = self.server.wait();
        if let Some(device) = &self.made {
            // It may have gone with its namespace.
            let _ = ip(&["link", "delete", device]);
        }
    }
}

fn configuration(folder: &Path, settings: SubnetSettings<'_>) -> String {
    let mask = Ipv4Addr::from(u32::MAX.checked_shl(32 - u32::from(settings.prefix)).unwrap_or(0));
    let leases = folder.join(format!("udhcpd-{}.leases", settings.device));
    fs::write(&leases, "").unwrap_or_default();
    format!(
        "interface {device}\nstart {instance}\nend {instance}\nmax_leases 1\nlease_file {leases}\npidfile {pid}\n\
         option subnet {mask}\noption router {router}\noption dns {router}\noption mtu {MTU}\noption lease {LEASE_SECONDS}\n\
         static_lease {mac} {instance}\n",
        device = settings.device,
        instance = settings.instance,
        leases = leases.display(),
        pid = folder.join(format!("udhcpd-{}.pid", settings.device)).display(),
        router = settings.router,
        mac = settings.mac,
    )
}

/// Runs `ip`, and makes an error of what it says.
pub(super) fn ip(arguments: &[&str]) -> io::Result<()> {
    let output = Command::new("ip").args(arguments).output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!(
        "ip {}: {}",
        arguments.join(" "),
        said.trim()
    )))
}
