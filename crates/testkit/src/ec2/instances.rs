//! What instances run on: for each a machine that boots the disk of its image, a subnet, and what it is told of itself.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    fs, io,
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use base64::{Engine, prelude::BASE64_STANDARD};

use super::{
    ImageRegistry, InstanceFacts, InterfaceFacts, Machine, MachineInterface, MachineSettings, Processors,
    REGION, Subnet, SubnetSettings,
    account::Account,
    emulator::Request,
    metadata::Metadata,
    snapshot,
    xml::{first, number, values},
};

const GIB: u64 = 1 << 30;
/// All instances share one machine: none has more than these, whatever its type.
const MEMORY_LIMIT_MIB: u32 = 2048;
const VCPU_LIMIT: u32 = 2;
/// Where a mapping of the root volume has its size.
const VOLUME_SIZE: &str = "BlockDeviceMapping.1.Ebs.VolumeSize";

/// All instances that were launched.
pub(super) struct Instances {
    folder: PathBuf,
    firmware: PathBuf,
    account: Account,
    published: Arc<ImageRegistry>,
    /// Devices are numbered: their names are short.
    devices: AtomicU32,
    places: Mutex<BTreeMap<String, Place>>,
    /// Held while the disk of an image is written.
    images: Mutex<()>,
}

/// Where an instance is.
enum Place {
    Starting,
    /// In this order they end.
    Running {
        machine: Machine,
        _subnets: Vec<Subnet>,
        addresses: Vec<Ipv4Addr>,
        metadata: Arc<Metadata>,
    },
    Ended,
}

impl Instances {
    pub(super) fn new(folder: PathBuf, firmware: PathBuf, published: Arc<ImageRegistry>) -> Self {
        Self {
            folder,
            firmware,
            account: published.account(),
            published,
            devices: AtomicU32::new(0),
            places: Mutex::default(),
            images: Mutex::default(),
        }
    }

    /// Starts the machine of an instance that was launched by `request`; one that was ended meanwhile does not start.
    ///
    /// # Errors
    /// The machine cannot be made.
    pub(super) fn start(&self, id: &str, request: &Request) -> io::Result<()> {
        match self.places().entry(id.to_owned()) {
            Entry::Vacant(vacant) => drop(vacant.insert(Place::Starting)),
            Entry::Occupied(_) => return Ok(()),
        }
        let running = self.run(id, request)?;
        let mut places = self.places();
        match places.get_mut(id) {
            Some(place @ Place::Starting) => *place = running,
            _ => self.discard(id, running),
        }
        Ok(())
    }

    /// Ends an instance's machine, and all that belongs to it.
    pub(super) fn end(&self, id: &str) {
        let place = self.places().insert(id.to_owned(), Place::Ended);
        if let Some(place) = place {
            self.discard(id, place);
        }
    }

    /// The instances whose machines have ended by themselves.
    pub(super) fn powered_off(&self) -> Vec<String> {
        let mut places = self.places();
        let ended = places.iter_mut().filter_map(|(id, place)| match place {
            Place::Running { machine, .. } => {
                let ended = machine.ended().expect("a child can be waited for");
                ended.map(|_| id.clone())
            }
            Place::Starting | Place::Ended => None,
        });
        ended.collect()
    }

    /// How many machines run.
    pub(super) fn running(&self) -> usize {
        let places = self.places();
        places
            .values()
            .filter(|place| matches!(place, Place::Running { .. }))
            .count()
    }

    /// What the instance at this address is told.
    pub(super) fn metadata(&self, asking: IpAddr) -> Option<Arc<Metadata>> {
        self.places().values().find_map(|place| match place {
            Place::Running {
                addresses, metadata, ..
            } if addresses.iter().any(|address| *address == asking) => Some(metadata.clone()),
            _ => None,
        })
    }

    /// What is on an instance's console, also after its end.
    pub(super) fn console(&self, id: &str) -> Vec<u8> {
        // An id is a name of this side's, and no path.
        let known = self.places().contains_key(id);
        if known {
            fs::read(self.files(id).join("console.log")).unwrap_or_default()
        } else {
            Vec::new()
        }
    }

    fn run(&self, id: &str, request: &Request) -> io::Result<Place> {
        let view = self
            .account
            .ask(&[("Action", "DescribeInstances"), ("InstanceId.1", id)])?;
        let of = |name: &str| first(&view, name);
        let facts = InstanceFacts {
            instance_id: id.to_owned(),
            image_id: of("imageId")?,
            instance_type: of("instanceType")?,
            account_id: self.account.number().to_owned(),
            region: REGION.to_owned(),
            availability_zone: of("availabilityZone")?,
            interfaces: self.interfaces(&view)?,
            user_data: request
                .parameter("UserData")
                .map(|data| BASE64_STANDARD.decode(data))
                .transpose()
                .map_err(io::Error::other)?,
        };
        let (vcpus, memory_mib) = self.size(&facts.instance_type)?;
        let image = self.image(&facts.image_id)?;
        let folder = self.files(id);
        fs::create_dir_all(&folder)?;
        let network = self.network(&of("subnetId")?)?;
        let devices: Vec<String> = facts.interfaces.iter().map(|_| self.device()).collect();
        let interfaces: Vec<_> = devices.iter().zip(&facts.interfaces).collect();
        let subnets = interfaces
            .iter()
            .map(|(device, interface)| subnet(&folder, device, interface, network));
        let subnets = subnets.collect::<io::Result<_>>()?;
        let asked = request.parameter(VOLUME_SIZE).and_then(|size| size.parse().ok());
        let volume_gib: u64 = asked.unwrap_or(0);
        let interfaces: Vec<_> = interfaces
            .into_iter()
            .map(|(device, InterfaceFacts { mac, .. })| MachineInterface { device, mac })
            .collect();
        let machine = Machine::start(MachineSettings {
            folder: &folder,
            image: &image,
            volume_bytes: fs::metadata(&image)?.len().max(volume_gib * GIB),
            processors: Processors::Amd64,
            firmware: &self.firmware,
            interfaces: &interfaces,
            instance_type: &facts.instance_type,
            memory_mib,
            vcpus,
        })?;
        Ok(Place::Running {
            machine,
            _subnets: subnets,
            addresses: facts.interfaces.iter().map(|one| one.private_ip).collect(),
            metadata: Arc::new(Metadata::new(facts)),
        })
    }

    /// The interfaces of an instance that is shown so, in the order of their device numbers.
    fn interfaces(&self, instance: &str) -> io::Result<Vec<InterfaceFacts>> {
        let mut found = BTreeMap::new();
        for id in values(instance, "networkInterfaceId") {
            let asked = [
                ("Action", "DescribeNetworkInterfaces"),
                ("NetworkInterfaceId.1", &id),
            ];
            let shown = self.account.ask(&asked)?;
            let interface = InterfaceFacts {
                private_ip: first(&shown, "privateIpAddress")?
                    .parse()
                    .map_err(io::Error::other)?,
                mac: first(&shown, "macAddress")?,
            };
            found.insert(number::<u32>(&first(&shown, "deviceIndex")?)?, interface);
        }
        if found.is_empty() {
            return Err(io::Error::other(format!(
                "it has no network interface: {instance}"
            )));
        }
        Ok(found.into_values().collect())
    }

    /// The name of one more device.
    fn device(&self) -> String {
        format!("ec2-{}", self.devices.fetch_add(1, Ordering::Relaxed))
    }

    /// Processors and memory of a type.
    fn size(&self, instance_type: &str) -> io::Result<(u32, u32)> {
        let shown = self.account.ask(&[
            ("Action", "DescribeInstanceTypes"),
            ("InstanceType.1", instance_type),
        ])?;
        let vcpus: u32 = number(&first(&shown, "defaultVCpus")?)?;
        let memory_mib: u32 = number(&first(&shown, "sizeInMiB")?)?;
        Ok((vcpus.min(VCPU_LIMIT), memory_mib.min(MEMORY_LIMIT_MIB)))
    }

    /// A subnet's router, which is its first host, and the length of its prefix.
    fn network(&self, subnet: &str) -> io::Result<(Ipv4Addr, u8)> {
        let shown = self
            .account
            .ask(&[("Action", "DescribeSubnets"), ("SubnetId.1", subnet)])?;
        let block = first(&shown, "cidrBlock")?;
        let (network, prefix) = block.split_once('/').unwrap_or((&block, "32"));
        let network: Ipv4Addr = network.parse().map_err(io::Error::other)?;
        Ok((Ipv4Addr::from(u32::from(network) + 1), number(prefix)?))
    }

    /// The disk of an image, written once.
    fn image(&self, id: &str) -> io::Result<PathBuf> {
        let _writing = self.images.lock().unwrap_or_else(PoisonError::into_inner);
        let path = self.folder.join(format!("{id}.raw"));
        if !path.exists() {
            let snapshot = self.published.snapshot_of(id);
            let snapshot = snapshot.ok_or_else(|| io::Error::other(format!("nobody has published {id}")))?;
            fs::create_dir_all(&self.folder)?;
            let unfinished = path.with_extension("unfinished");
            snapshot::restore(&self.account, &snapshot, &unfinished)?;
            fs::rename(&unfinished, &path)?;
        }
        Ok(path)
    }

    /// Ends what there is; what is large goes, the console stays.
    fn discard(&self, id: &str, place: Place) {
        drop(place);
        for large in ["volume.raw", "variables.fd"] {
            // One that never started has none.
            let _ = fs::remove_file(self.files(id).join(large));
        }
    }

    fn files(&self, id: &str) -> PathBuf {
        Path::new(&self.folder).join(id)
    }

    fn places(&self) -> MutexGuard<'_, BTreeMap<String, Place>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The subnet at one interface of an instance.
fn subnet(
    folder: &Path,
    device: &str,
    interface: &InterfaceFacts,
    (router, prefix): (Ipv4Addr, u8),
) -> io::Result<Subnet> {
    let settings = SubnetSettings {
        device,
        instance: interface.private_ip,
        mac: &interface.mac,
        router,
        prefix,
    };
    Subnet::start(folder, settings)
}
