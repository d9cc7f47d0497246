//! EC2 whose instances run: what is published there is what boots, and what is launched is a machine.
//!
//! - *Images* are what was published, block by block ([`super::ImageRegistry`]).
//! - *Launches* are those of [`super::Emulator`]; each instance is a machine with firmware that boots the disk of its image, has
//!   the address that EC2 shows, and finds its user data at the metadata service.
//! - *Ends*: a machine that powers off is a terminated instance, and a terminated instance has no machine.
//! - *Consoles* are those of the machines.
//!
//! Instances are reached in the network namespace that this process is in. What there is, `GET /account` tells.

use std::{
    io,
    net::TcpListener,
    path::PathBuf,
    sync::{Arc, OnceLock},
    thread,
    time::Duration,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

use super::{
    Emulator, ImageRegistry, METADATA_ADDRESS, REGION,
    account::Account,
    emulator::{Change, Request},
    instances::Instances,
    subnet::ip,
    xml::values,
};
use crate::http::{HttpAnswer, HttpReply, HttpRequest, HttpServer};

/// How often is looked whether a machine has powered off.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// What tests and the test bed ask for what there is.
const ACCOUNT_PATH: &str = "/account";

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
}

impl Cloud {
    /// Serves EC2 and EBS on `listener`. moto starts with the first request: until then it costs nothing.
    ///
    /// # Errors
    /// The listener is of no use.
    pub fn serve(listener: TcpListener, settings: CloudSettings) -> io::Result<HttpServer> {
        let cloud = OnceLock::new();
        HttpServer::on(listener, move |request| {
            match cloud.get_or_init(|| Self::start(&settings)) {
                Some(cloud) => cloud.answer(request),
                None => HttpAnswer::new(503, "moto is not installed where this emulator looks for it"),
            }
        })
    }

    fn start(settings: &CloudSettings) -> Option<Arc<Self>> {
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
        });
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
        serve_metadata(&cloud.instances).expect("the metadata service has its address and port");
        let watching = cloud.clone();
        thread::spawn(move || watching.watch());
        Some(cloud)
    }

    fn run(&self, id: &str, request: &Request) {
        if let Err(error) = self.instances.start(id, request) {
            eprintln!("{id} does not start: {error}");
            self.instances.end(id);
            self.emulator.terminate(id);
        }
    }

    /// Tells EC2 of machines that powered off.
    fn watch(&self) {
        loop {
            for id in self.instances.powered_off() {
                self.instances.end(&id);
                self.emulator.terminate(&id);
            }
            thread::sleep(LOOK_INTERVAL);
        }
    }

    fn answer(&self, http: &HttpRequest) -> HttpAnswer {
        if http.target == ACCOUNT_PATH {
            return match self.account() {
                Ok(account) => HttpAnswer::new(200, format!("{account:#}\n")),
                Err(error) => HttpAnswer::new(500, error.to_string()),
            };
        }
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

/// Serves what instances are told of themselves, each by its address. Packets of the answers pass one host: no router
/// forwards them, so that only the instance itself gets a token.
fn serve_metadata(instances: &Arc<Instances>) -> io::Result<()> {
    ip(&[
        "address",
        "replace",
        &format!("{METADATA_ADDRESS}/32"),
        "dev",
        "lo",
    ])?;
    let listener = TcpListener::bind((METADATA_ADDRESS, 80))?;
    // Accepted connections inherit it.
    listener.set_ttl(1)?;
    let instances = instances.clone();
    HttpServer::on(listener, move |request| {
        let asking = request.peer.map(|peer| peer.ip());
        match asking.and_then(|address| instances.metadata(address)) {
            Some(metadata) => metadata.answer(request),
            None => HttpAnswer::new(404, "no instance has your address"),
        }
    })
    .map(drop)
}
