//! Daemons of the node that end and are started again, and the settings by which the operator does that to the adaptor.

use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::{Bed, NAMESPACE, wait_for};

/// A daemon is started again within a second, and serves soon after; a busy machine takes longer.
const RESTART_LIMIT: Duration = Duration::from_secs(60);
/// The adaptor, as [`Bed::daemons`] knows it.
const ADAPTOR: &str = "cloud-api-adapt";
/// What an administrator sets.
const SETTINGS: &str = "peer-pods-cm";

/// The process of a daemon of the node; its name as the kernel keeps it, cut to 15 characters.
#[track_caller]
pub fn process_of(bed: &Bed, name: &str) -> String {
    wait_for(&format!("{name} runs"), RESTART_LIMIT, || {
        match bed.daemons(name).as_slice() {
            [only] => Ok(only.clone()),
            found => Err(format!("{found:?}")),
        }
    })
}

/// Waits until another process of a daemon runs, after what was done to the one before; gives what came of that.
#[track_caller]
pub fn replaced<T>(bed: &Bed, name: &str, act: impl FnOnce(&str) -> T) -> T {
    let before = process_of(bed, name);
    let done = act(&before);
    wait_for(&format!("{name} is started again"), RESTART_LIMIT, || {
        let now = process_of(bed, name);
        if now == before { Err(now) } else { Ok(()) }
    });
    done
}

/// Waits until the adaptor listens for shims.
#[track_caller]
pub fn wait_adaptor_serves(bed: &Bed) {
    wait_for("cloud-api-adaptor serves its socket", RESTART_LIMIT, || {
        let sockets = bed.enter(&["cat", "/proc/net/unix"]).text();
        if sockets.contains("/run/peerpod/hypervisor.sock") {
            Ok(())
        } else {
            Err(sockets)
        }
    });
}

/// Settings of `peer-pods-cm`, changed as an administrator does; they are as before when this goes out of scope.
pub struct ChangedSettings<'bed> {
    bed: &'bed Bed,
    before: Map<String, Value>,
}

impl<'bed> ChangedSettings<'bed> {
    /// Changes settings, those that are null to nothing, and does not wait for what comes of it.
    #[track_caller]
    pub fn set(bed: &'bed Bed, settings: &Value) -> Self {
        let there = bed.settings();
        let names = settings.as_object().into_iter().flat_map(Map::keys);
        let before = names.map(|name| (name.clone(), there.get(name).cloned().unwrap_or_default()));
        let before = before.collect();
        bed.set(settings);
        Self { bed, before }
    }

    /// Does that, and waits until an adaptor serves that was started with them.
    #[track_caller]
    pub fn of(bed: &'bed Bed, settings: &Value) -> Self {
        let changed = replaced(bed, ADAPTOR, |_| Self::set(bed, settings));
        wait_adaptor_serves(bed);
        changed
    }

    /// Leaves a setting as it is by now.
    pub fn keep(&mut self, name: &str) {
        self.before.remove(name);
    }
}

impl Drop for ChangedSettings<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.bed.adaptor_log());
        }
        self.bed.change_settings(&self.before.clone().into());
    }
}

impl Bed {
    /// What is set in `peer-pods-cm`.
    #[track_caller]
    pub fn settings(&self) -> Map<String, Value> {
        let command = ["-n", NAMESPACE, "get", "configmap", SETTINGS, "--output", "json"];
        let map: Value = serde_json::from_str(&self.kubectl(&command).text()).expect("kubectl prints JSON");
        map["data"].as_object().cloned().unwrap_or_default()
    }

    #[track_caller]
    fn set(&self, changes: &Value) {
        let patch = json!({"data": changes}).to_string();
        let command = ["-n", NAMESPACE, "patch", "configmap", SETTINGS, "--type=merge"];
        self.kubectl(&[&command[..], &["--patch", &patch]].concat())
            .text();
    }

    /// Changes settings, those that are null to nothing, and waits until the operator has replaced the adaptor for it.
    #[track_caller]
    pub fn change_settings(&self, changes: &Value) {
        replaced(self, ADAPTOR, |_| self.set(changes));
        wait_adaptor_serves(self);
    }
}
