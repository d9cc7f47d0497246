//! EC2 whose instances run: what is published there is what boots, and what is launched is a machine.
//!
//! - *Images* are what was published, block by block ([`super::ImageRegistry`]).
//! - *Launches* are those of [`super::Emulator`]; each instance is a machine with firmware that boots the disk of its image, has
//!   the address that EC2 shows, and finds its user data at the metadata service.
//! - *Ends*: a machine that powers off is a terminated instance, and a terminated instance has no machine.
//! - *Consoles* are those of the machines.
//! - *The worker* is the machine that this runs on: metadata of its own tell it its region, subnet and security group.
//! - *Time* is this machine's, served where EC2 has its time server.
//!
//! Instances are reached in the network namespace that this process is in. Beside what clients of EC2 ask there are controls
//! for tests and for whoever tries something (`cloud/controls.rs`).

mod controls;

use std::{
    io,
    net::{IpAddr, Ipv4Addr, TcpListener},
    path::PathBuf,
    sync::{Arc, OnceLock},
    thread,
    time::Duration,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

use super::{
    Emulator, ImageRegistry, METADATA_ADDRESS, REGION, TIME_ADDRESS, TimeServer,
    account::Account,
    emulator::{Change, Request},
    faults::Faults,
    instances::Instances,
    metadata::Metadata,
    subnet::ip,
    worker,
    xml::values,
};
use crate::http::{HttpAnswer, HttpReply, HttpRequest, HttpServer};

/// How often is looked whether a machine has powered off.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);
const TIME_PORT: u16 = 123;

/// What a cloud is made of.
#[derive(Clone, Debug)]
pub struct CloudSettings {
    /// The folder for disks and consoles.
    pub folder: PathBuf,
    /// The folder of OVMF, with `OVMF_CODE_4M.fd`.
    pub firmware: PathBuf,
}

/// EC2 and EBS, and the machines that instances are.
pub struct Cloud {
    images: Arc<ImageRegistry>,
    emulator: Emulator,
    instances: Arc<Instances>,
    account: Account,
    faults: Arc<Faults>,
}

impl Cloud {
    /// Serves EC2 and EBS on `listener`. moto starts with the first request: until then it costs nothing.
    ///
    /// # Errors
    /// The listener is of no use.
    pub fn serve(listener: TcpListener, settings: CloudSettings) -> io::Result<HttpServer> {
        let (cloud, address) = (OnceLock::new(), listener.local_addr()?.ip());
        HttpServer::on(listener, move |request| {
            match cloud.get_or_init(|| Self::start(&settings, address)) {
                Some(cloud) => cloud.control(request).unwrap_or_else(|| cloud.answer(request)),
                None => HttpAnswer::new(503, "moto is not installed where this emulator looks for it"),
            }
        })
    }

    fn start(settings: &CloudSettings, address: IpAddr) -> Option<Arc<Self>> {
        let images = Arc::new(ImageRegistry::start()?);
        let account = images.account();
        let instances = Arc::new(Instances::new(
            settings.folder.clone(),
            settings.firmware.clone(),
            images.clone(),
        ));
        let cloud = Arc::new(Self {
            emulator: Emulator::of(account.clone()),
            images,
            instances: instances.clone(),
            account,
            faults: Arc::default(),
        });
        let faults = cloud.faults.clone();
        cloud.emulator.set_faults(move |request| faults.strike(request));
        let observing = Arc::downgrade(&cloud);
        cloud.emulator.observe(move |change| match change {
            Change::Launched(ids, request) => {
                for (id, request) in ids.into_iter().map(|id| (id, request.clone())) {
                    let cloud = observing.upgrade().expect("an answering emulator is there");
                    thread::spawn(move || cloud.run(&id, &request));
                }
            }
            Change::Ends(id) => instances.end(id),
        });
        let worker = worker::metadata(&cloud.account, address).expect("moto's accounts have a network");
        serve_metadata(&cloud.instances, worker).expect("the metadata service has its address and port");
        serve_time().expect("the time server has its address and port");
        let watching = cloud.clone();
        thread::spawn(move || watching.watch());
        Some(cloud)
    }

    fn run(&self, id: &str, request: &Request) {
        if let Err(error) = self.instances.start(id, request) {
            eprintln!("{id} does not start: {error}");
            self.end(id);
        }
    }

    /// Ends an instance as its machine's end does.
    fn end(&self, id: &str) {
        self.instances.end(id);
        self.emulator.terminate(id);
    }

    /// Tells EC2 of machines that powered off.
    fn watch(&self) {
        loop {
            for id in self.instances.powered_off() {
                self.end(&id);
            }
            thread::sleep(LOOK_INTERVAL);
        }
    }

    fn answer(&self, http: &HttpRequest) -> HttpAnswer {
        let request = Request::parse(&http.body);
        if request.action == "GetConsoleOutput" {
            return HttpAnswer::Reply(self.console(&request));
        }
        if ImageRegistry::concerns(http) {
            self.images.answer(http)
        } else {
            self.emulator.answer(http)
        }
    }

    fn console(&self, request: &Request) -> HttpReply {
        let id = request.parameter("InstanceId").unwrap_or_default();
        let output = BASE64_STANDARD.encode(self.instances.console(id));
        let body = format!(
            "<GetConsoleOutputResponse xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\"><requestId>none</requestId>\
             <instanceId>{id}</instanceId><timestamp>2026-01-01T00:00:00.000Z</timestamp><output>{output}</output>\
             </GetConsoleOutputResponse>"
        );
        HttpReply {
            status: 200,
            headers: Vec::new(),
            body: body.into_bytes(),
        }
    }

    /// What there is in the account.
    fn account(&self) -> io::Result<Value> {
        let of = |action: &str, name: &str| {
            let answer = self.account.ask(&[("Action", action)])?;
            let mut found = values(&answer, name);
            found.sort();
            found.dedup();
            Ok::<_, io::Error>(found)
        };
        Ok(json!({
            "region": REGION,
            "vpcs": of("DescribeVpcs", "vpcId")?,
            "subnets": of("DescribeSubnets", "subnetId")?,
            "securityGroups": of("DescribeSecurityGroups", "groupId")?,
            "instances": self.emulator.living_instances(),
            "volumes": of("DescribeVolumes", "volumeId")?,
            "addresses": of("DescribeAddresses", "allocationId")?,
            "interfaces": of("DescribeNetworkInterfaces", "networkInterfaceId")?,
            "snapshots": of("DescribeSnapshots", "snapshotId")?,
            "machines": self.instances.running(),
        }))
    }
}

/// Serves what instances are told of themselves, each by its address, and what `worker` is told, which asks from here. Packets
/// of the answers pass one host: no router forwards them, so that only the instance itself gets a token.
fn serve_metadata(instances: &Arc<Instances>, worker: Metadata) -> io::Result<()> {
    own(METADATA_ADDRESS)?;
    let listener = TcpListener::bind((METADATA_ADDRESS, 80))?;
    // Accepted connections inherit it.
    listener.set_ttl(1)?;
    let instances = instances.clone();
    HttpServer::on(listener, move |request| {
        let asking = request.peer.map(|peer| peer.ip());
        // The kernel asks an address of its own from that address.
        if asking == Some(METADATA_ADDRESS.into()) {
            return worker.answer(request);
        }
        match asking.and_then(|address| instances.metadata(address)) {
            Some(metadata) => metadata.answer(request),
            None => HttpAnswer::new(404, "no instance has your address"),
        }
    })
    .map(drop)
}

/// Serves this machine's time, where every instance looks for it.
fn serve_time() -> io::Result<()> {
    own(TIME_ADDRESS)?;
    TimeServer::start((TIME_ADDRESS, TIME_PORT).into(), Duration::ZERO, |_| true).map(drop)
}

/// Gives an address to this machine.
fn own(address: Ipv4Addr) -> io::Result<()> {
    ip(&["address", "replace", &format!("{address}/32"), "dev", "lo"])
}
