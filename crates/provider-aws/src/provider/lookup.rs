//! What is there: by token, by id, by owner. EC2's silence is believed late.

use peerpods_aws::{AwsError, Parameters};
use peerpods_error::chain;
use peerpods_provider::{Instance, InstanceId, LaunchToken, OwnedInstance, OwnerScope, ProviderError};
use tokio::time::{Instant, sleep};

use super::account::Account;
use crate::{
    answers::{Existence, InstanceView, Launched, Reached},
    error::during,
    launches::Progress,
    tags::{self, CLUSTER, NODE, TOKEN},
};

/// Whether an id can be one of EC2's.
pub(super) fn is_instance(id: &InstanceId) -> bool {
    id.as_str().strip_prefix("i-").is_some_and(|number| {
        (8..=17).contains(&number.len()) && number.bytes().all(|byte| byte.is_ascii_hexdigit())
    })
}

impl Account {
    /// The living instance of a token whose progress nobody changes meanwhile. None means that nothing is left of it either.
    pub(super) async fn find(
        &self,
        token: &LaunchToken,
        progress: &Progress,
    ) -> Result<Option<Instance>, ProviderError> {
        let asked = self.launches.last_asked(progress);
        loop {
            let looked = Instant::now();
            let views = self.of_token(token).await.map_err(during("find", token))?;
            if let Some(view) = views.iter().find(|view| view.existence() == Existence::Lives) {
                return self.with_addresses(view).map(Some);
            }
            if !views.is_empty() {
                self.release_left_by(token, &views).await?;
                return Ok(None);
            }
            let visible = self.launches.was_visible(asked, looked);
            match progress {
                Progress::Launched { instances, .. } if !visible => return Ok(instances.first().cloned()),
                Progress::Absent => return Ok(None),
                _ if visible => {
                    self.release_left_by(token, &views).await?;
                    return Ok(None);
                }
                Progress::Unseen | Progress::Doubtful { .. } | Progress::Launched { .. } => {
                    sleep(self.timing.look).await;
                }
            }
        }
    }

    /// All living instances of a token whose progress nobody changes meanwhile. That EC2 shows some of a batch does not mean
    /// that it shows all.
    pub(super) async fn find_all(
        &self,
        token: &LaunchToken,
        progress: &Progress,
    ) -> Result<Vec<Instance>, ProviderError> {
        let asked = self.launches.last_asked(progress);
        loop {
            let looked = Instant::now();
            let views = self.of_token(token).await.map_err(during("find", token))?;
            let invisible: &[Instance] = match progress {
                _ if self.launches.was_visible(asked, looked) => &[],
                Progress::Absent => &[],
                Progress::Launched { instances, .. } => instances,
                Progress::Unseen | Progress::Doubtful { .. } => {
                    sleep(self.timing.look).await;
                    continue;
                }
            };
            let living = views.iter().filter(|view| view.existence() == Existence::Lives);
            let found: Result<Vec<Instance>, _> = living.map(|view| self.with_addresses(view)).collect();
            let is_shown = |instance: &&Instance| views.iter().any(|view| view.id() == instance.id);
            let mut found = found?;
            found.extend(invisible.iter().filter(|instance| !is_shown(instance)).cloned());
            self.release_left_by(token, &views).await?;
            return Ok(found);
        }
    }

    /// All that EC2 shows of a token, ended ones too, as long as it shows those.
    pub(super) async fn of_token(&self, token: &LaunchToken) -> Result<Vec<InstanceView>, AwsError> {
        let mut parameters = Parameters::new();
        parameters.set_filter(1, format!("tag:{TOKEN}"), [token]);
        self.instances(&parameters).await
    }

    /// All that EC2 shows of what has these parameters.
    async fn instances(&self, parameters: &Parameters) -> Result<Vec<InstanceView>, AwsError> {
        let launches = self.ec2.list(parameters).await?;
        Ok(Launched::instances(launches).collect())
    }

    /// The instance by its id, as EC2 showed it at `not_before` or later; none when it is not there, and EC2 has had time
    /// to show it.
    pub(super) async fn shown(
        &self,
        id: &InstanceId,
        mut not_before: Instant,
    ) -> Result<Option<InstanceView>, ProviderError> {
        if !is_instance(id) {
            return Ok(None);
        }
        loop {
            let shown = self.watch.look(id, not_before).await;
            let shown = shown.map_err(during("describe", id))?;
            if shown.is_some() || self.launches.was_visible(self.launches.launched(id), not_before) {
                return Ok(shown);
            }
            sleep(self.timing.look).await;
            not_before = Instant::now();
        }
    }

    pub(super) async fn list(&self, scope: &OwnerScope) -> Result<Vec<OwnedInstance>, ProviderError> {
        let mut parameters = Parameters::new();
        parameters.set_filter(1, format!("tag:{CLUSTER}"), [&scope.cluster]);
        if let Some(node) = &scope.node {
            parameters.set_filter(2, format!("tag:{NODE}"), [node]);
        }
        let views = self.instances(&parameters).await;
        let views = views.map_err(during("list", &scope.cluster))?;
        let mut found = Vec::new();
        for view in views.iter().filter(|view| view.existence() == Existence::Lives) {
            match tags::owner(&view.tag_set.items) {
                Some((token, owner)) => found.push(OwnedInstance {
                    instance: self.with_addresses(view)?,
                    token,
                    owner,
                }),
                None => tracing::warn!(instance = %view.id(), "its tags do not say whose it is"),
            }
        }
        let is_shown = |id: &InstanceId| views.iter().any(|view| view.id() == *id);
        let invisible = self.launches.invisible(scope).into_iter();
        found.extend(invisible.filter(|owned| !is_shown(&owned.instance.id)));
        // What is listed is right all the same.
        if let Err(error) = self.release_strays(scope, &views).await {
            tracing::warn!(
                error = chain(&error),
                "elastic addresses of instances that are gone may be left"
            );
        }
        Ok(found)
    }

    /// The instance with what addresses it has.
    fn with_addresses(&self, view: &InstanceView) -> Result<Instance, ProviderError> {
        view.instance(self.reached)
            .or_else(|| view.instance(Reached::Privately))
            .ok_or_else(|| ProviderError::Failed {
                action: "describe",
                subject: view.id().to_string(),
                source: "the instance has no address".into(),
            })
    }
}
