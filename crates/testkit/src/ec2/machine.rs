//! A machine that stands in for an EC2 instance: QEMU with UEFI firmware, which boots a disk image as EC2 would.

use std::{
    fs::{self, File},
    io::{self, Read},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
};

/// What is copied of a disk at once; where it is empty, it is left out.
const CHUNK_BYTES: usize = 64 << 10;

/// Which processors a machine has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Processors {
    /// AMD's and Intel's; the firmware's folder has `OVMF_CODE_4M.fd`.
    Amd64,
    /// Graviton's; the firmware's folder has `AAVMF_CODE.fd`.
    Arm64,
}

impl Processors {
    /// QEMU for them, with what else differs.
    fn qemu(self) -> Command {
        let (program, machine, processor) = match self {
            Self::Amd64 => (
                "qemu-system-x86_64",
                "q35,vmport=off,sata=off,smbus=off,usb=off",
                "max,la57=off",
            ),
            // To sign pointers as the architecture says would take most of the time.
            Self::Arm64 => ("qemu-system-aarch64", "virt", "max,pauth-impdef=on"),
        };
        let mut qemu = Command::new(program);
        qemu.args(["-M", machine, "-cpu", processor]);
        qemu
    }

    /// The files of the firmware: its code, and its variables as they are at first.
    fn firmware(self) -> [&'static str; 2] {
        match self {
            Self::Amd64 => ["OVMF_CODE_4M.fd", "OVMF_VARS_4M.fd"],
            Self::Arm64 => ["AAVMF_CODE.fd", "AAVMF_VARS.fd"],
        }
    }
}

/// What a machine is made of.
#[derive(Clone, Copy, Debug)]
pub struct MachineSettings<'a> {
    /// The folder for its files: disk, firmware variables, console.
    pub folder: &'a Path,
    /// The disk image; the machine gets a copy.
    pub image: &'a Path,
    /// The size of its root volume, at least that of the image.
    pub volume_bytes: u64,
    /// Its processors, which are the image's.
    pub processors: Processors,
    /// The folder of the UEFI firmware for them.
    pub firmware: &'a Path,
    /// Its network interfaces, in the order in which the kernel finds them.
    pub interfaces: &'a [MachineInterface<'a>],
    /// For example `m6a.large`.
    pub instance_type: &'a str,
    /// Its memory.
    pub memory_mib: u32,
    /// How many processors.
    pub vcpus: u32,
}

/// A network interface of a machine.
#[derive(Clone, Copy, Debug)]
pub struct MachineInterface<'a> {
    /// The tap device that it is at.
    pub device: &'a str,
    /// Its hardware address.
    pub mac: &'a str,
}

impl MachineInterface<'_> {
    /// QEMU's arguments for it.
    fn arguments(&self) -> [String; 4] {
        let Self { device, mac } = self;
        [
            "-netdev".to_owned(),
            format!("tap,id={device},ifname={device},script=no,downscript=no"),
            "-device".to_owned(),
            format!("virtio-net-pci,netdev={device},romfile=,mac={mac}"),
        ]
    }
}

/// A running machine; it ends when it is dropped.
pub struct Machine {
    process: Child,
    folder: PathBuf,
}

impl Machine {
    /// Starts one. It has what an instance has, as far as QEMU does: an NVMe root volume, Amazon's name in the firmware's
    /// tables, a serial console.
    ///
    /// # Errors
    /// A file cannot be made, or QEMU not started.
    pub fn start(settings: MachineSettings<'_>) -> io::Result<Self> {
        let volume = settings.folder.join("volume.raw");
        copy_sparse(settings.image, &volume, settings.volume_bytes)?;
        let variables = settings.folder.join("variables.fd");
        let [code, initial] = settings.processors.firmware();
        fs::copy(settings.firmware.join(initial), &variables)?;
        let code = settings.firmware.join(code);
        let console = settings.folder.join("console.log");
        let process = settings
            .processors
            .qemu()
            .args(["-accel", "tcg,thread=multi"])
            .args(["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"])
            .args(["-m", &format!("{}M", settings.memory_mib)])
            .args(["-smp", &settings.vcpus.to_string()])
            .args(["-smbios", "type=0,vendor=Amazon EC2"])
            .arg("-smbios")
            .arg(format!(
                "type=1,manufacturer=Amazon EC2,product={}",
                settings.instance_type
            ))
            .arg("-drive")
            .arg(format!(
                "if=pflash,format=raw,readonly=on,file={}",
                code.display()
            ))
            .arg("-drive")
            .arg(format!("if=pflash,format=raw,file={}", variables.display()))
            .arg("-drive")
            .arg(format!(
                "if=none,id=root,format=raw,cache=unsafe,discard=unmap,file={}",
                volume.display()
            ))
            .args([
                "-device",
                "nvme,drive=root,serial=vol0123456789abcdef0,bootindex=0",
            ])
            .args(settings.interfaces.iter().flat_map(MachineInterface::arguments))
            .args(["-device", "virtio-rng-pci"])
            .args(["-serial", &format!("file:{}", console.display())])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(settings.folder.join("qemu.log"))?)
            .spawn()?;
        Ok(Self {
            process,
            folder: settings.folder.to_owned(),
        })
    }

    /// What is on its console so far, and what QEMU itself had to say.
    pub fn console(&self) -> String {
        let read = |name: &str| {
            let bytes = fs::read(self.folder.join(name)).unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        read("console.log") + &read("qemu.log")
    }

    /// Its root volume.
    pub fn volume(&self) -> PathBuf {
        self.folder.join("volume.raw")
    }

    /// How it has ended, if it has.
    ///
    /// # Errors
    /// It cannot be waited for.
    pub fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.process.try_wait()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // One that has ended is as good.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Copies what a disk holds to a file of another size, which takes no more room than that.
fn copy_sparse(from: &Path, to: &Path, bytes: u64) -> io::Result<()> {
    let (mut from, to) = (File::open(from)?, File::create(to)?);
    to.set_len(bytes)?;
    let mut chunk = vec![0; CHUNK_BYTES];
    let empty = chunk.clone();
    let mut offset = 0;
    loop {
        let length = from.read(&mut chunk)?;
        if length == 0 {
            return Ok(());
        }
        if chunk[..length] != empty[..length] {
            to.write_all_at(&chunk[..length], offset)?;
        }
        offset += length as u64;
    }
}
