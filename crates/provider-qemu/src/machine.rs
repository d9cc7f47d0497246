//! QEMU's command line: one virtual machine with as few devices as a pod needs.
//!
//! The machine is a `q35` without what a pod's VM never uses. `microvm` would reach init half a second sooner,
//! but of its emulated boots some hang: it has neither HPET nor ACPI timer, and when the kernel fails to
//! measure its clock against the PIT, which happens on a busy host, nothing is left that ticks.

use std::{ffi::OsString, net::Ipv4Addr, os::fd::RawFd, path::Path};

use crate::{
    qmp::{CONTROL_SOCKET, LIFE_SOCKET},
    scratch,
    shape::Plan,
};

/// The boot payload's and the network settings' names in `fw_cfg`.
const USER_DATA_ITEM: &str = "opt/peerpods/user-data";
const NETWORK_ITEM: &str = "opt/peerpods/network";
/// Random bytes for a VM that is a copy of a saved one.
const ENTROPY_ITEM: &str = "opt/peerpods/entropy";

/// The files of these items in the VM's directory; that of the payload is the local providers'.
pub(crate) const NETWORK_FILE: &str = "network.json";
pub(crate) const ENTROPY_FILE: &str = "entropy";

/// The guest's kernel: its serial console is slow, so it says only what went wrong; after a panic it resets,
/// and a reset ends the VM.
const KERNEL_ARGUMENTS: &str = "console=ttyS0 quiet loglevel=4 panic=-1";

/// How the guest's instructions run, once it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Engine {
    Kvm,
    Tcg,
}

impl Engine {
    fn arguments(self) -> [&'static str; 4] {
        match self {
            Self::Kvm => ["-accel", "kvm", "-cpu", "host"],
            // All instructions that QEMU knows, so that containers built for newer CPUs run; five-level
            // page tables would only make every address translation slower.
            Self::Tcg => ["-accel", "tcg,thread=multi", "-cpu", "max,la57=off"],
        }
    }
}

/// What one VM's command line depends on. QEMU runs in the instance's directory.
pub(crate) struct Machine<'a> {
    pub(crate) engine: Engine,
    pub(crate) plan: &'a Plan,
    /// For people who look at the process list.
    pub(crate) name: &'a str,
    pub(crate) address: Ipv4Addr,
    /// The number under which QEMU inherits its scratch disk.
    pub(crate) scratch: Option<RawFd>,
    pub(crate) memory: Memory<'a>,
}

/// What is in the VM's memory as it starts.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Memory<'a> {
    /// Nothing: the VM boots.
    Empty,
    /// Nothing, and it will be saved: memory is this file.
    Saved(&'a Path),
    /// What this file has, which stays as it is: every page that the VM writes becomes its own. It does not run until it
    /// is given the state that belongs to the memory.
    Resumed(&'a Path),
}

impl Memory<'_> {
    fn arguments(self, mebibytes: u32) -> Vec<OsString> {
        let file = |path: &Path, share: &str| {
            let path = escape(&path.to_string_lossy());
            format!("memory-backend-file,id=memory,size={mebibytes}M,mem-path={path},share={share}")
        };
        let (object, wait) = match self {
            Self::Empty => return Vec::new(),
            Self::Saved(path) => (file(path, "on"), None),
            Self::Resumed(path) => (file(path, "off"), Some(["-incoming", "defer"])),
        };
        let entropy = format!("name={ENTROPY_ITEM},file={ENTROPY_FILE}");
        let pairs = [
            ["-object", &object],
            ["-machine", "memory-backend=memory"],
            ["-fw_cfg", &entropy],
        ];
        let all = pairs.into_iter().chain(wait).flatten();
        all.map(OsString::from).collect()
    }
}

impl Machine<'_> {
    /// The arguments. The tap device is standard input, so no descriptor can leak to another process.
    pub(crate) fn arguments(&self) -> Vec<OsString> {
        let mut arguments = common_arguments(self.engine);
        let name = format!("guest={}", escape(self.name));
        let cpus = self.plan.vcpus.to_string();
        let memory = format!("{}M", self.plan.memory_mib);
        let device = format!(
            "virtio-net-pci,netdev=pod,romfile=,mac={}",
            mac_address(self.address)
        );
        let user_data = format!("name={USER_DATA_ITEM},file=user-data");
        let network = format!("name={NETWORK_ITEM},file={NETWORK_FILE}");
        let control = format!("socket,id=control,path={CONTROL_SOCKET},server=on,wait=off");
        let life = format!("socket,id=life,path={LIFE_SOCKET},server=on,wait=off");
        let pairs = [
            ["-name", &name],
            ["-smp", &cpus],
            ["-m", &memory],
            ["-chardev", "file,id=console,path=console.log,append=on"],
            ["-serial", "chardev:console"],
            ["-chardev", &control],
            ["-mon", "chardev=control,mode=control"],
            ["-chardev", &life],
            ["-mon", "chardev=life,mode=control"],
            ["-netdev", "tap,id=pod,fd=0"],
            ["-device", &device],
            ["-device", "virtio-rng-pci"],
            ["-fw_cfg", &user_data],
            ["-fw_cfg", &network],
            ["-append", KERNEL_ARGUMENTS],
        ];
        arguments.extend(pairs.into_iter().flatten().map(OsString::from));
        arguments.extend(self.memory.arguments(self.plan.memory_mib));
        let scratch = self.scratch.into_iter().flat_map(scratch::arguments);
        arguments.extend(scratch.flatten().map(OsString::from));
        arguments.push("-kernel".into());
        arguments.push(self.plan.kernel.clone().into());
        arguments.push("-initrd".into());
        arguments.push(self.plan.initrd.clone().into());
        arguments
    }
}

/// The arguments of a machine that boots a kernel until it finds no init, and then ends.
pub(crate) fn probe_arguments(engine: Engine, kernel: &Path, console: &str) -> Vec<OsString> {
    let mut arguments = common_arguments(engine);
    let serial = format!("file:{console}");
    let pairs = [
        ["-m", "256M"],
        ["-serial", &serial],
        ["-append", "console=ttyS0 panic=-1"],
    ];
    arguments.extend(pairs.into_iter().flatten().map(OsString::from));
    arguments.push("-kernel".into());
    arguments.push(kernel.into());
    arguments
}

fn common_arguments(engine: Engine) -> Vec<OsString> {
    let machine = ["-M", "q35,smm=off,vmport=off,sata=off,smbus=off,usb=off"];
    let quiet = ["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"];
    // What QEMU never needs for these devices, the kernel refuses it from now on.
    let sandbox = [
        "-sandbox",
        "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
    ];
    let all = machine
        .into_iter()
        .chain(quiet)
        .chain(sandbox)
        .chain(engine.arguments());
    all.map(OsString::from).collect()
}

/// A locally administered address from the VM's IP address: unique on the bridge because that is, and the
/// same for the next VM with this IP address, so that no neighbour's cache goes stale.
pub(crate) fn mac_address(address: Ipv4Addr) -> String {
    let [a, b, c, d] = address.octets();
    format!("02:50:{a:02x}:{b:02x}:{c:02x}:{d:02x}")
}

/// QEMU separates options by commas and reads a doubled one as itself.
fn escape(text: &str) -> String {
    text.replace(',', ",,")
}

#[cfg(test)]
mod tests {
    use super::{Engine, Machine, Memory, mac_address};
    use crate::shape::Plan;

    #[test]
    fn the_command_line_holds_the_plan() {
        let plan = Plan {
            vcpus: 2,
            memory_mib: 768,
            kernel: "/boot/vmlinuz,odd".into(),
            initrd: "/boot/initrd.img".into(),
        };
        let machine = Machine {
            engine: Engine::Tcg,
            plan: &plan,
            name: "podvm,x",
            address: [10, 250, 0, 100].into(),
            memory: Memory::Empty,
            scratch: Some(9),
        };
        let line: Vec<String> = machine
            .arguments()
            .into_iter()
            .map(|argument| argument.into_string().unwrap())
            .collect();
        let value = |option: &str| &line[line.iter().position(|found| found == option).unwrap() + 1];
        assert_eq!(value("-smp"), "2");
        assert_eq!(value("-m"), "768M");
        assert_eq!(value("-kernel"), "/boot/vmlinuz,odd");
        assert_eq!(value("-name"), "guest=podvm,,x");
        assert_eq!(value("-accel"), "tcg,thread=multi");
        assert_eq!(value("-add-fd"), "fd=9,set=0,opaque=scratch");
        assert!(line.contains(&"virtio-net-pci,netdev=pod,romfile=,mac=02:50:0a:fa:00:64".to_owned()));
    }

    #[test]
    fn a_mac_address_is_local_and_unicast() {
        let first = u8::from_str_radix(&mac_address([10, 0, 0, 1].into())[..2], 16).unwrap();
        assert_eq!(first & 0b11, 0b10);
    }
}
