//! The provider with real QEMU processes, each test in a network namespace of its own.
//!
//! `PEERPODS_TEST_KERNEL` and `PEERPODS_TEST_INITRD` name the image to boot (see `peerpodctl image build`); needs
//! root and `/dev/net/tun`. Without them the tests say so and pass.
#![allow(clippy::unwrap_used)] // A test stops where its bed fails.

mod bed;

use std::{
    env, fs,
    os::unix::fs::{FileExt, PermissionsExt},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use bed::{settings, until, with_bed};
use peerpods_proto::payload::ScratchEncryption;
use peerpods_provider::{
    InstanceStatus, OwnerScope, Provider, Shape,
    conformance::{self, Place, request},
};
use peerpods_provider_qemu::{Accelerator, QemuProvider, QemuSettings};

/// Set in the child process that a crash test kills: the bed's directory.
const LAUNCHER_BED: &str = "PEERPODS_TEST_LAUNCHER_BED";

#[test]
fn the_provider_keeps_the_contract() {
    with_bed(|bed| async move { conformance::run_all(&*bed).await });
}

/// A provider that resumes VMs, with its template built.
async fn with_template(bed: &bed::Bed) -> QemuProvider {
    let settings = QemuSettings {
        template_dir: Some(bed.path().join("templates")),
        ..bed.settings()
    };
    let provider = QemuProvider::new(settings).unwrap();
    provider.prepare().await.unwrap();
    provider
}

/// The template's directory.
fn template(bed: &bed::Bed) -> std::path::PathBuf {
    let entries = fs::read_dir(bed.path().join("templates")).unwrap().flatten();
    let mut directories = entries.map(|entry| entry.path()).filter(|path| path.is_dir());
    let only = directories.next().expect("there is a template");
    assert_eq!(directories.next(), None, "there is one template");
    only
}

#[test]
fn a_resumed_vm_is_told_what_it_is_and_the_template_stays_as_it_is() {
    with_bed(|bed| async move {
        let provider = with_template(&bed).await;
        assert!(
            bed.vms().is_empty() && bed.taps() == 0,
            "the VM that was saved is gone"
        );
        let memory = fs::metadata(template(&bed).join("memory")).unwrap();
        assert_eq!(memory.permissions().mode() & 0o777, 0o600);

        // What it says before it powers off is known only to who read the payload.
        let mut forgotten = request("resumed", "node-a");
        forgotten.payload = payload_with_lease(Duration::from_secs(2)).into();
        let instance = provider.launch(&forgotten).await.unwrap();
        let left = fs::read_dir(bed.directory(&instance.id)).unwrap().flatten();
        let secrets = left.filter(|file| {
            ["user-data", "entropy"]
                .iter()
                .any(|name| file.file_name() == *name)
        });
        assert_eq!(secrets.count(), 0, "a secret stays on the node");
        tokio::time::timeout(Duration::from_secs(60), provider.ended(&instance.id))
            .await
            .expect("the VM ends by itself");
        let InstanceStatus::Gone(reason) = provider.describe(&instance.id).await.unwrap() else {
            panic!("the VM lives")
        };
        assert!(reason.contains("the worker was not heard"), "{reason}");
        let console = provider.console_tail(&instance.id).await.unwrap();
        assert!(console.contains("ms after the VM was resumed"), "{console}");
        provider.terminate(&instance.id).await.unwrap();
        let now = fs::metadata(template(&bed).join("memory")).unwrap();
        assert_eq!(
            now.modified().unwrap(),
            memory.modified().unwrap(),
            "the template was written to"
        );
    });
}

#[test]
fn a_template_that_is_of_no_use_costs_no_vm_anything() {
    with_bed(|bed| async move {
        let provider = with_template(&bed).await;
        fs::write(template(&bed).join("state"), "no state").unwrap();
        let instance = provider.launch(&request("damaged", "node-a")).await.unwrap();
        assert_eq!(
            provider.describe(&instance.id).await.unwrap(),
            InstanceStatus::Alive
        );
        assert_eq!(
            (bed.vms().len(), bed.taps()),
            (1, 1),
            "it boots, and nothing else is left"
        );
        let left = fs::read_dir(bed.path().join("templates")).unwrap().flatten();
        assert!(
            left.into_iter().all(|entry| !entry.path().is_dir()),
            "it is not used again"
        );
        // It is not built again all the time, either.
        provider.prepare().await.unwrap();
        assert_eq!(bed.vms().len(), 1);
        provider.terminate(&instance.id).await.unwrap();
    });
}

#[test]
fn a_vm_of_another_size_boots() {
    with_bed(|bed| async move {
        let provider = with_template(&bed).await;
        let mut large = request("large", "node-a");
        large.shape.memory_mib = Some(700);
        let instance = provider.launch(&large).await.unwrap();
        let line = fs::read_to_string(format!("/proc/{}/cmdline", bed.vms()[0].as_raw_nonzero())).unwrap();
        assert!(!line.contains("-incoming"), "{line}");
        provider.terminate(&instance.id).await.unwrap();
    });
}

#[test]
fn a_builder_that_was_killed_leaves_nothing_to_the_next() {
    with_bed(|bed| async move {
        // As it is left: a VM that comes up, held by nobody.
        let building = bed.path().join("templates/building");
        fs::create_dir_all(&building).unwrap();
        fs::write(building.join("memory"), "half").unwrap();
        with_template(&bed).await;
        assert!(!building.exists());
        assert!(template(&bed).join("state").exists());
    });
}

#[test]
fn resumed_vms_keep_the_contract_too() {
    with_bed(|bed| async move {
        with_template(&bed).await;
        let resuming = Resuming(bed.clone());
        conformance::run_all(&resuming).await;
    });
}

/// The bed, with providers that resume VMs.
struct Resuming(std::sync::Arc<bed::Bed>);

#[async_trait::async_trait]
impl Place for Resuming {
    fn open(&self) -> std::sync::Arc<dyn Provider> {
        let settings = QemuSettings {
            template_dir: Some(self.0.path().join("templates")),
            ..self.0.settings()
        };
        std::sync::Arc::new(QemuProvider::new(settings).unwrap())
    }

    async fn kill(&self, id: &peerpods_provider::InstanceId) {
        self.0.kill(id).await;
    }
}

#[test]
fn a_vm_gets_its_address_and_payload_and_the_payload_does_not_stay() {
    with_bed(|bed| async move {
        let provider = bed.provider();
        let instance = provider.launch(&request("payload", "node-a")).await.unwrap();
        assert_eq!(
            instance.addresses,
            ["10.250.0.100".parse::<std::net::IpAddr>().unwrap()]
        );
        assert_eq!((bed.taps(), bed.disks()), (1, 1));

        let directory = bed.directory(&instance.id);
        assert!(
            !directory.join("user-data").exists(),
            "the secret stays on the node"
        );
        let network = fs::read_to_string(directory.join("network.json")).unwrap();
        assert_eq!(
            network,
            r#"{"address":"10.250.0.100/24","gateway":"10.250.0.1","mac":"02:50:0a:fa:00:64","mtu":9001}"#
        );
        assert_eq!(
            fs::metadata(&directory).unwrap().permissions().mode() & 0o777,
            0o700
        );
        provider.terminate(&instance.id).await.unwrap();
    });
}

#[test]
fn the_pool_is_the_capacity_and_an_end_gives_its_address_back() {
    with_bed(|bed| async move { conformance::the_pool_is_the_capacity(&*bed, &bed.settings().pool).await });
}

#[test]
fn a_guest_that_panics_ends_its_vm_and_its_console_tells_why() {
    with_bed(|bed| async move {
        let image = bed.path().join("images/without-init");
        fs::create_dir_all(&image).unwrap();
        fs::copy(bed.settings().kernel, image.join("vmlinuz")).unwrap();
        fs::write(image.join("initrd.img"), [0; 512]).unwrap();

        let provider = bed.provider();
        let mut request = request("panics", "node-a");
        request.shape = Shape {
            image: Some("without-init".to_owned()),
            ..Shape::default()
        };
        let instance = provider.launch(&request).await.unwrap();
        let reason = loop {
            match provider.describe(&instance.id).await.unwrap() {
                InstanceStatus::Gone(reason) => break reason,
                InstanceStatus::Alive => until_a_moment_passes().await,
            }
        };
        assert!(
            reason.ends_with("Unable to mount root fs on unknown-block(0,0)"),
            "{reason}"
        );
        assert!(
            provider
                .console_tail(&instance.id)
                .await
                .unwrap()
                .contains("Unable to mount root fs")
        );
        assert_eq!(
            provider.launch(&request).await.unwrap(),
            instance,
            "a token gets no second VM"
        );
        assert!(bed.vms().is_empty());
        provider.terminate(&instance.id).await.unwrap();
    });
}

/// A boot payload as the adaptor makes it, for a pod whose worker is nowhere.
fn payload_with_lease(lease: Duration) -> Vec<u8> {
    payload(lease, ScratchEncryption::None)
}

fn payload(lease: Duration, scratch_encryption: ScratchEncryption) -> Vec<u8> {
    use peerpods_proto::payload::{
        BootPayload, ForwarderConfig, GuestSettings, InstanceMetadata, JoinSecret, PodNetwork, TunnelType,
    };

    let pod_network = PodNetwork {
        pod_ip: "10.244.0.9/24".parse().unwrap(),
        further_pod_ips: Vec::new(),
        pod_hw_addr: "0a:58:0a:f4:00:09".to_owned(),
        interface: "eth0".to_owned(),
        worker_node_ip: "10.250.0.1/24".parse().unwrap(),
        tunnel_type: TunnelType::Vxlan,
        routes: Vec::new(),
        neighbors: Vec::new(),
        mtu: 1450,
        index: 0,
        vxlan_port: 4789,
        vxlan_id: 555_000,
        dedicated: false,
        external_net_via_pod_vm: false,
    };
    let authority = peerpods_tunnel::channel::ClientIdentity::issue("lease")
        .unwrap()
        .authority_pem;
    let payload = BootPayload {
        forwarder: ForwarderConfig {
            pod_network,
            pod_namespace: "default".to_owned(),
            pod_name: "lease".to_owned(),
            tls_client_ca: Some(authority),
            tls_server_key: None,
            tls_server_cert: None,
        },
        settings: Some(GuestSettings {
            join_secret: JoinSecret::new([7; 32]),
            lease,
            insecure_registries: Vec::new(),
            scratch_encryption,
            instance_metadata: InstanceMetadata::Refuse,
        }),
    };
    payload.render().unwrap().as_bytes().to_vec()
}

#[test]
fn a_guest_that_nobody_speaks_to_ends_its_vm_when_its_lease_lapses() {
    with_bed(|bed| async move {
        // Nor does it need a disk to come so far.
        let settings = QemuSettings {
            scratch: None,
            ..bed.settings()
        };
        let provider = QemuProvider::new(settings).unwrap();
        let mut forgotten = request("lease", "node-a");
        forgotten.payload = payload_with_lease(Duration::from_secs(2)).into();
        let instance = provider.launch(&forgotten).await.unwrap();
        assert_eq!(bed.disks(), 0);
        // Nobody ends it: the test waits for its own end.
        tokio::time::timeout(Duration::from_secs(60), provider.ended(&instance.id))
            .await
            .expect("the VM ends by itself");
        let InstanceStatus::Gone(reason) = provider.describe(&instance.id).await.unwrap() else {
            panic!("the VM lives")
        };
        assert!(reason.contains("the worker was not heard"), "{reason}");
        provider.terminate(&instance.id).await.unwrap();
    });
}

#[test]
fn a_scratch_disk_can_be_read_by_the_node_unless_it_is_to_be_encrypted() {
    const EXT4_MAGIC_OFFSET: u64 = 1024 + 0x38;
    with_bed(|bed| async move {
        // Resumed, so that what a VM needs for it is there after that as well.
        let provider = with_template(&bed).await;
        for (encryption, is_encrypted) in [
            (ScratchEncryption::None, false),
            (ScratchEncryption::Ephemeral, true),
        ] {
            let mut request = request("encrypted", "node-a");
            request.payload = payload(Duration::from_secs(600), encryption).into();
            let instance = provider.launch(&request).await.unwrap();
            let deadline = Instant::now() + Duration::from_secs(60);
            let console = loop {
                let console = provider.console_tail(&instance.id).await.unwrap();
                if console.contains("scratch space is on /dev/vda") {
                    break console;
                }
                assert!(Instant::now() < deadline, "no scratch space:\n{console}");
                until_a_moment_passes().await;
            };
            assert_eq!(console.contains("/dev/vda, encrypted"), is_encrypted, "{console}");
            let mut found = [0; 2];
            let disk = fs::File::open(bed.disk()).unwrap();
            disk.read_exact_at(&mut found, EXT4_MAGIC_OFFSET).unwrap();
            // Who has it open keeps it.
            drop(disk);
            assert_eq!(found != [0x53, 0xef], is_encrypted, "{encryption:?}");
            assert_ne!(found, [0, 0], "something was written");
            provider.terminate(&instance.id).await.unwrap();
            until("the scratch disk is gone", || bed.disks() == 0).await;
        }
    });
}

#[test]
fn an_end_is_told_as_it_happens_whoever_launched_the_vm() {
    with_bed(|bed| async move {
        let launcher = bed.provider();
        let instance = launcher.launch(&request("told", "node-a")).await.unwrap();
        let provider = bed.provider();
        let (early, alive) = (
            provider.ended(&instance.id),
            tokio::time::sleep(Duration::from_millis(500)),
        );
        tokio::select! {
            () = early => panic!("the VM is said to have ended"),
            () = alive => {}
        }
        let (told, end) = tokio::join!(provider.ended(&instance.id), launcher.terminate(&instance.id));
        end.unwrap();
        let InstanceStatus::Gone(_) = provider.describe(&instance.id).await.unwrap() else {
            panic!("the VM lives after {told:?}")
        };
        // Whoever asks late is told at once.
        provider.ended(&instance.id).await;
    });
}

#[test]
fn a_launch_that_cannot_work_leaves_nothing_and_says_why() {
    with_bed(|bed| async move {
        let launch = async |change: fn(&mut QemuSettings)| {
            let mut settings = bed.settings();
            change(&mut settings);
            let error = QemuProvider::new(settings)
                .unwrap()
                .launch(&request("fails", "node-a"))
                .await
                .unwrap_err();
            let cause = std::error::Error::source(&error).unwrap().to_string();
            assert_eq!(bed.directories(), [""; 0], "after: {cause}");
            assert!(error.retryable());
            cause
        };
        assert_eq!(
            launch(|settings| settings.bridge = "absent0".into()).await,
            "there is no bridge absent0"
        );
        let without_files = |settings: &mut QemuSettings| {
            settings.scratch.as_mut().unwrap().directory = "/proc/scratch".into();
        };
        assert_eq!(launch(without_files).await, "cannot make /proc/scratch");
        assert_eq!(
            launch(|settings| settings.binary = "/no/qemu".into()).await,
            "cannot start /no/qemu"
        );
        assert!(
            launch(|settings| settings.binary = "false".into())
                .await
                .starts_with("QEMU ended")
        );
    });
}

#[test]
fn wherever_the_launcher_dies_there_is_one_vm_in_the_end() {
    // Each file appears at another point of a launch; the launcher is killed when it is there.
    for stage in [
        "",
        "user-data",
        "record.json",
        "alive",
        "qemu.log",
        "control.sock",
        "console.log",
    ] {
        with_bed(move |bed| async move { killed_at(&bed, &bed.provider(), stage).await });
    }
}

#[test]
fn wherever_the_launcher_dies_while_a_vm_is_resumed_there_is_one_vm_in_the_end() {
    with_bed(|bed| async move {
        let provider = with_template(&bed).await;
        for stage in [
            "entropy",
            "record.json",
            "alive",
            "console.log",
            "control.sock",
            "life.sock",
        ] {
            killed_at(&bed, &provider, stage).await;
        }
    });
}

/// Kills the launcher once `stage` is there, and launches again.
async fn killed_at(bed: &bed::Bed, provider: &QemuProvider, stage: &str) {
    let request = request("crash", "node-a");
    let mut launcher = Command::new(env::current_exe().unwrap())
        .args(["--exact", "launcher_process", "--nocapture"])
        .env(LAUNCHER_BED, bed.path())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let reached = || {
        let directories = bed.directories();
        let stage = directories
            .first()
            .map(|name| bed.settings().state_dir.join(name).join(stage));
        stage.is_some_and(|path| path.exists()) || launcher_has_ended(launcher.id())
    };
    until("the launcher has come so far", reached).await;
    launcher.kill().unwrap();
    launcher.wait().unwrap();

    let found = provider.find(&request.token).await.unwrap();
    let instance = provider.launch(&request).await.unwrap();
    assert!(
        found.is_none_or(|found| found == instance),
        "a second VM after {stage:?}"
    );
    assert_eq!(bed.vms().len(), 1, "killed at {stage:?}");
    assert_eq!(bed.taps(), 1, "killed at {stage:?}");
    until("one disk is there", || bed.disks() == 1).await;
    let scope = OwnerScope {
        cluster: "conformance".to_owned(),
        node: Some("node-a".to_owned()),
    };
    assert_eq!(provider.list(&scope).await.unwrap().len(), 1);
    provider.terminate(&instance.id).await.unwrap();
}

/// Not a test of its own: the process that the crash test kills.
#[test]
fn launcher_process() {
    let (Some(bed), Some((kernel, initrd))) = (env::var_os(LAUNCHER_BED), bed::image()) else {
        return;
    };
    let templates = Path::new(&bed).join("templates");
    let settings = QemuSettings {
        template_dir: templates.is_dir().then_some(templates),
        ..settings(Path::new(&bed), kernel, initrd)
    };
    let provider = QemuProvider::new(settings).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime
        .block_on(provider.launch(&request("crash", "node-a")))
        .unwrap();
}

#[test]
fn a_vm_survives_its_launcher_and_another_ends_it() {
    with_bed(|bed| async move {
        let status = Command::new(env::current_exe().unwrap())
            .args(["--exact", "launcher_process"])
            .env(LAUNCHER_BED, bed.path())
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert!(status.success());
        let provider = bed.open();
        let instance = provider
            .find(&request("crash", "node-a").token)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(
            provider.describe(&instance.id).await.unwrap(),
            InstanceStatus::Alive
        );
        provider.terminate(&instance.id).await.unwrap();
    });
}

#[test]
fn the_kvm_probe_answers_and_is_remembered() {
    with_bed(|bed| async move {
        let settings = QemuSettings {
            accelerator: Accelerator::Auto,
            ..bed.settings()
        };
        QemuProvider::new(settings.clone())
            .unwrap()
            .prepare()
            .await
            .unwrap();
        let answer = fs::read_to_string(settings.state_dir.join("accelerator.json"));
        eprintln!(
            "the probe found: {}",
            answer.as_deref().unwrap_or("there is no /dev/kvm")
        );

        // With the answer on disk even a QEMU that cannot boot anything is not asked again.
        let again = QemuProvider::new(settings).unwrap();
        let instance = again.launch(&request("probed", "node-a")).await.unwrap();
        again.terminate(&instance.id).await.unwrap();
    });
}

/// Between two questions to the provider.
async fn until_a_moment_passes() {
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
}

/// Whether a child process has ended, without collecting it.
fn launcher_has_ended(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    status
        .rsplit(") ")
        .next()
        .is_none_or(|rest| rest.starts_with('Z'))
}
