//! A place for instances: the emulator with an image, subnets and a security group.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use peerpods_aws::{Pace, StaticCredentials};
use peerpods_provider::{
    InstanceId, OwnerScope, Provider,
    conformance::{InterruptedPlace, Place},
};
use peerpods_provider_aws::{AwsArguments, AwsProvider, AwsProviderSettings, Timing};
use peerpods_testkit::ec2::{Emulator, REGION};

/// An emulator is asked in milliseconds, and hides nothing unless it is told to.
pub(crate) const HURRY: Timing = Timing {
    visibility: Duration::from_millis(100),
    freshness: Duration::from_millis(20),
    interruption: Duration::from_millis(20),
    look: Duration::from_millis(20),
    end: Duration::from_secs(10),
};

/// With this an instance is hidden for a while, and the provider knows that it may be.
pub(crate) const HIDDEN: Duration = Duration::from_millis(400);
pub(crate) const PATIENT: Timing = Timing {
    visibility: Duration::from_millis(1_000),
    ..HURRY
};

/// With these each VM has two interfaces, each with an elastic address.
pub(crate) const ELASTIC: [(&str, &str); 2] =
    [("USE_PUBLIC_IP", "true"), ("EXTERNAL_NETWORK_VIA_PODVM", "true")];

pub(crate) struct Bed {
    pub(crate) emulator: Emulator,
    pub(crate) settings: AwsProviderSettings,
}

impl Bed {
    /// Starts one for an administrator who set these, or says what is missing and gives none.
    pub(crate) async fn start(values: &[(&str, &str)]) -> Option<Self> {
        let emulator = Emulator::start()?;
        let image = emulator.register_image();
        let settings = settings(&emulator, &image, values);
        Some(Self { emulator, settings })
    }

    /// A provider that knows nothing of those before it, as after a restart.
    pub(crate) async fn connect(&self, timing: Timing) -> AwsProvider {
        AwsProvider::connect(self.settings.clone(), timing).await.unwrap()
    }

    /// The ids that the provider lists for one node.
    pub(crate) async fn listed(&self, provider: &dyn Provider) -> Vec<InstanceId> {
        let scope = OwnerScope {
            cluster: "conformance".to_owned(),
            node: Some("node-a".to_owned()),
        };
        let found = provider.list(&scope).await.unwrap();
        found.into_iter().map(|owned| owned.instance.id).collect()
    }
}

/// These settings, and for what they do not say an image, a subnet and a group that are there.
pub(crate) fn settings(emulator: &Emulator, image: &str, values: &[(&str, &str)]) -> AwsProviderSettings {
    let subnet = emulator.subnets().remove(0);
    let group = emulator.security_group();
    let defaults = [
        ("PODVM_AMI_ID", image),
        ("AWS_SUBNET_ID", &subnet),
        ("AWS_SG_IDS", &group),
        ("AWS_REGION", REGION),
    ];
    let value = |name: &str| {
        let found = values.iter().chain(&defaults).find(|(known, _)| *known == name);
        found.map(|(_, value)| (*value).to_owned())
    };
    let mut settings = AwsArguments::from_values(value).parse().unwrap();
    settings.aws.credentials = Some(StaticCredentials::new(
        "AKIDEXAMPLE".into(),
        "secret".into(),
        None,
    ));
    settings.aws.ec2_endpoint = Some(emulator.url());
    settings.aws.pace = Pace {
        first_pause: Duration::from_millis(2),
        longest_pause: Duration::from_millis(20),
        limits: 1_000.0,
    };
    settings
}

#[async_trait]
impl Place for Bed {
    fn open(&self) -> Arc<dyn Provider> {
        let (settings, runtime) = (self.settings.clone(), tokio::runtime::Handle::current());
        // To connect is to wait, which a thread of this runtime may not do.
        let connecting = std::thread::spawn(move || runtime.block_on(AwsProvider::connect(settings, HURRY)));
        Arc::new(connecting.join().unwrap().unwrap())
    }

    async fn kill(&self, id: &InstanceId) {
        self.emulator.terminate(id.as_str());
    }
}

#[async_trait]
impl InterruptedPlace for Bed {
    async fn interrupt(&self, id: &InstanceId) {
        self.emulator.interrupt(id.as_str());
    }
}
