//! The node with a provider that misbehaves: what is tried again, what is given up, and what is left.

use std::{sync::Arc, time::Duration};

use peerpods_proto::{
    payload::{InstanceMetadata, ScratchEncryption},
    shim_settings::ShimSettings,
};
use peerpods_provider::{
    OwnerScope, Provider,
    fake::{Call, FakeProvider, Fault},
};

use super::{GuestDefaults, Node, PodDirectories, end_orphans};
use crate::{
    journal::Journal,
    kubernetes::{Access, Cluster},
    sandbox::{Effects, Limits, Plan, Reason, Sandboxes, example},
    warm::{Pool, PoolSettings},
};

pub(super) struct Lab {
    pub(super) folder: tempfile::TempDir,
    pub(super) provider: FakeProvider,
    pub(super) node: Arc<Node>,
    pub(super) plan: Plan,
}

impl Lab {
    fn new() -> Self {
        Self::with(Access::None)
    }

    /// With this way to the API server.
    pub(super) fn with(access: Access) -> Self {
        let folder = tempfile::Builder::new().prefix("pp").tempdir_in("/tmp").unwrap();
        let provider = FakeProvider::new();
        let directories = PodDirectories::new(folder.path().to_owned(), ShimSettings::default()).unwrap();
        let journal = Journal::open(&folder.path().join("pool")).unwrap();
        let settings = PoolSettings {
            size: 0,
            cluster: "c".to_owned(),
            node: "n".to_owned(),
            lease: Duration::from_secs(60),
            scratch_encryption: ScratchEncryption::None,
            agent_port: 15150,
            limits: Limits::default(),
        };
        let node = Arc::new(Node {
            provider: Arc::new(provider.clone()),
            pool: Pool::new(Arc::new(provider.clone()), journal, settings),
            directories,
            guest: GuestDefaults {
                lease: Duration::from_secs(60),
                insecure_registries: Vec::new(),
                scratch_encryption: ScratchEncryption::None,
                instance_metadata: InstanceMetadata::Refuse,
                agent_port: 15150,
            },
            limits: Limits::default(),
            peer_pods: None,
            cluster: Cluster::new(access),
        });
        let plan = example("pod-1", 555_000);
        node.directories.make(&plan.sandbox).unwrap();
        Self {
            folder,
            provider,
            node,
            plan,
        }
    }

    pub(super) async fn launch(&self) -> Result<peerpods_provider::Instance, Reason> {
        self.node.launch(&self.plan, &self.plan.launch_token(1)).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_launch_whose_answer_is_lost_is_asked_for_again_and_made_once() {
    let lab = Lab::new();
    for fault in [
        Fault::LoseReply,
        Fault::LoseRequest,
        Fault::Throttle,
        Fault::Capacity,
    ] {
        lab.provider.fail_next(Call::Launch, fault);
    }
    lab.launch().await.unwrap();
    assert_eq!(lab.provider.launched(), 1);
    assert_eq!(lab.provider.calls(), [Call::Launch; 5]);
}

#[tokio::test(start_paused = true)]
async fn what_can_never_work_is_refused_at_once() {
    let lab = Lab::new();
    for (fault, words) in [(Fault::Invalid, "no such thing"), (Fault::Deny, "says no")] {
        lab.provider.fail_next(Call::Launch, fault);
        let reason = lab.launch().await.unwrap_err();
        assert!(matches!(reason, Reason::Refused(_)), "{reason:?}");
        assert!(reason.to_string().contains(words), "{reason}");
    }
    assert_eq!(lab.provider.calls().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_cloud_that_stays_full_is_given_up_in_time_and_said_to_be_full() {
    let lab = Lab::new();
    (0..100).for_each(|_| lab.provider.fail_next(Call::Launch, Fault::Capacity));
    let start = tokio::time::Instant::now();
    let reason = lab.launch().await.unwrap_err();
    assert!(matches!(reason, Reason::NoCapacity(_)), "{reason:?}");
    assert!(start.elapsed() <= lab.node.limits.launch, "{:?}", start.elapsed());
    // Pauses grow: a full cloud is not asked a hundred times.
    assert!(lab.provider.calls().len() < 12, "{}", lab.provider.calls().len());
}

#[tokio::test(start_paused = true)]
async fn a_cloud_that_does_not_answer_is_given_up_in_time() {
    let lab = Lab::new();
    lab.provider
        .fail_next(Call::Launch, Fault::Slow(Duration::from_secs(3600)));
    let reason = lab.launch().await.unwrap_err();
    assert!(matches!(reason, Reason::NotLaunched(_)), "{reason:?}");
    assert_eq!(lab.provider.launched(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_end_is_asked_for_until_it_is_confirmed() {
    let lab = Lab::new();
    let instance = lab.launch().await.unwrap();
    for fault in [Fault::StillAlive, Fault::LoseRequest, Fault::Throttle] {
        lab.provider.fail_next(Call::Terminate, fault);
    }
    let token = lab.plan.launch_token(1);
    lab.node.drain(&lab.plan, &token, Some(&instance)).await;
    assert!(lab.provider.instances().is_empty());
    assert!(!lab.node.directories.path(&lab.plan.sandbox).exists());
    // Whoever asks again is told the same.
    lab.node.drain(&lab.plan, &token, Some(&instance)).await;
}

#[tokio::test(start_paused = true)]
async fn what_was_launched_without_an_answer_is_found_by_its_token() {
    let lab = Lab::new();
    lab.launch().await.unwrap();
    let token = lab.plan.launch_token(1);
    lab.node.drain(&lab.plan, &token, None).await;
    assert!(lab.provider.instances().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_vm_without_a_record_is_ended_and_a_stray_directory_removed() {
    let lab = Lab::new();
    lab.launch().await.unwrap();
    lab.provider.fail_next(Call::List, Fault::LoseRequest);
    lab.provider.fail_next(Call::Terminate, Fault::StillAlive);
    // The journal was lost, and with it every sandbox.
    let journal = Journal::open(&lab.folder.path().join("journal")).unwrap();
    let sandboxes = Sandboxes::new(journal, lab.node.clone(), Arc::default());
    let scope = |node: &str| OwnerScope {
        cluster: "c".to_owned(),
        node: Some(node.to_owned()),
    };
    end_orphans(&lab.node, &sandboxes, &scope("another")).await;
    assert_eq!(
        lab.provider.instances().len(),
        1,
        "another node's VM is none of ours"
    );
    end_orphans(&lab.node, &sandboxes, &scope("n")).await;
    assert!(lab.provider.list(&scope("n")).await.unwrap().is_empty());
    assert!(!lab.node.directories.path(&lab.plan.sandbox).exists());
}
