//! How instances are: one question to EC2 for all that anybody asks about.

use std::{
    collections::BTreeMap,
    sync::{Mutex as StdMutex, MutexGuard},
    time::Duration,
};

use peerpods_aws::{AwsError, Ec2, Listed, Parameters};
use peerpods_provider::InstanceId;
use tokio::{sync::Mutex, time::Instant};

/// The most values of one filter, by EC2.
const FILTER_VALUES_LIMIT: usize = 200;

/// How long an instance is looked at with the others after somebody asked: longer than between two questions of one that
/// serves a pod.
const INTEREST: Duration = Duration::from_secs(60);

/// What EC2 shows of an instance, in a list that can be filtered by instances.
pub(crate) trait View: Clone {
    /// What the list has.
    type Entry: Listed;
    /// The filter whose values are instances' ids.
    const FILTER: &'static str;

    /// What the entries say, instance by instance.
    fn by_instance(entries: Vec<Self::Entry>) -> BTreeMap<InstanceId, Self>;
}

/// What EC2 last showed, and who is interested.
#[derive(Debug)]
pub(crate) struct Watch<V> {
    ec2: Ec2,
    /// Never locked while EC2 is asked: whoever comes meanwhile is in the next question, whoever asks it.
    interest: StdMutex<BTreeMap<InstanceId, Instant>>,
    /// Locked while EC2 is asked: whoever comes meanwhile is served by the next question, together with all others.
    sweep: Mutex<Sweep<V>>,
}

#[derive(Debug)]
struct Sweep<V> {
    /// When the answers in `shown` were asked for.
    asked: Option<Instant>,
    shown: BTreeMap<InstanceId, Option<V>>,
}

impl<V: View> Watch<V> {
    pub(crate) fn new(ec2: Ec2) -> Self {
        let sweep = Sweep {
            asked: None,
            shown: BTreeMap::new(),
        };
        Self {
            ec2,
            interest: StdMutex::default(),
            sweep: Mutex::new(sweep),
        }
    }

    /// The instance as EC2 showed it at `not_before` or later; none where it did not show it.
    pub(crate) async fn look(&self, id: &InstanceId, not_before: Instant) -> Result<Option<V>, AwsError> {
        self.interest().insert(id.clone(), Instant::now());
        let mut sweep = self.sweep.lock().await;
        if let Some(shown) = sweep.shown.get(id)
            && sweep.asked.is_some_and(|asked| asked >= not_before)
        {
            return Ok(shown.clone());
        }
        let now = Instant::now();
        let ids = self.interesting(id, now);
        sweep.shown = self.shown(&ids).await?;
        sweep.asked = Some(now);
        Ok(sweep.shown.get(id).cloned().flatten())
    }

    /// These are asked about from now on: the next question is about them too.
    pub(crate) fn expect(&self, ids: impl Iterator<Item = InstanceId>) {
        let now = Instant::now();
        self.interest().extend(ids.map(|id| (id, now)));
    }

    /// Nobody asks about the instance any more.
    pub(crate) async fn forget(&self, id: &InstanceId) {
        self.interest().remove(id);
        self.sweep.lock().await.shown.remove(id);
    }

    /// What EC2 is asked about now: this instance, however long it waited for its turn, and all that others look at.
    fn interesting(&self, id: &InstanceId, now: Instant) -> Vec<InstanceId> {
        let mut interest = self.interest();
        interest.insert(id.clone(), now);
        interest.retain(|_, asked| now.saturating_duration_since(*asked) < INTEREST);
        interest.keys().cloned().collect()
    }

    fn interest(&self) -> MutexGuard<'_, BTreeMap<InstanceId, Instant>> {
        self.interest
            .lock()
            .expect("nothing panics while it holds who is interested")
    }

    async fn shown(&self, ids: &[InstanceId]) -> Result<BTreeMap<InstanceId, Option<V>>, AwsError> {
        let mut shown: BTreeMap<InstanceId, Option<V>> = ids.iter().map(|id| (id.clone(), None)).collect();
        for some in ids.chunks(FILTER_VALUES_LIMIT) {
            // By a filter: the parameter that names instances makes an error of one that is not there.
            let mut parameters = Parameters::new();
            parameters.set_filter(1, V::FILTER, some.iter().map(InstanceId::as_str));
            let entries = self.ec2.list::<V::Entry>(&parameters).await?;
            let views = V::by_instance(entries).into_iter();
            shown.extend(views.map(|(id, view)| (id, Some(view))));
        }
        Ok(shown)
    }
}
