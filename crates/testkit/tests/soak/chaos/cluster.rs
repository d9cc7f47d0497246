//! The cluster under all this, as its administrator sees it.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use peerpods_testkit::{Bed, NAMESPACE, wait_for, wait_no_disk_without_machine};
use serde_json::{Value, json};

/// The kubelet starts what was killed after at most a second, and probes it every five: a busy machine takes several times that.
const RESTART_LIMIT: Duration = Duration::from_secs(30);
/// A whole installation or removal, with operators that are killed meanwhile.
const INSTALL_LIMIT: Duration = Duration::from_secs(240);
const CONFIG: [&str; 4] = ["-n", NAMESPACE, "peerpodconfig", "peerpodconfig-openshift"];
const VM_RESOURCE: &str = "kata.peerpods.io/vm";

/// The bed's cluster; it has everything again once this goes.
pub(crate) struct Cluster<'bed> {
    pub(crate) bed: &'bed Bed,
    /// A bed with its own KataConfig and limit.
    original: String,
}

impl Drop for Cluster<'_> {
    fn drop(&mut self) {
        // A test that failed is told by its own words.
        self.bed.kubectl(&["apply", "-f", &self.original]);
    }
}

impl<'bed> Cluster<'bed> {
    pub(crate) fn new(bed: &'bed Bed) -> Self {
        let original = bed.program("state/config/kata-config.json");
        Self { bed, original }
    }

    /// The operator, and not what is on the node of the same program.
    pub(crate) fn kill_operator(&self) {
        let found = self.processes("[p]eerpods-operator run$");
        found.iter().for_each(|process| self.kill(process));
    }

    pub(crate) fn kill_operator_after_each(&self, pauses: &[Duration]) {
        for pause in pauses {
            sleep(*pause);
            self.kill_operator();
        }
    }

    /// The replicas of the webhook.
    pub(crate) fn webhooks(&self) -> Vec<String> {
        self.processes("[p]eerpods-webhook$")
    }

    fn processes(&self, pattern: &str) -> Vec<String> {
        let found = self.bed.enter(&["pgrep", "--full", pattern]);
        found.stdout.lines().map(str::to_owned).collect()
    }

    /// Kills a process; one that has ended meanwhile is dead too.
    pub(crate) fn kill(&self, process: &str) {
        self.bed.enter(&["kill", "-KILL", process]);
    }

    pub(crate) fn set_limit(&self, limit: usize) {
        let patch = json!({"spec": {"limit": limit.to_string()}}).to_string();
        let change = ["patch", "--type=merge", "--patch", &patch];
        self.bed.kubectl(&[&change[..], &CONFIG].concat()).text();
    }

    #[track_caller]
    pub(crate) fn wait_capacity(&self, limit: usize) {
        let limit = limit.to_string();
        wait_for(
            &format!("the node may have {limit} VMs"),
            RESTART_LIMIT * 2,
            || {
                let node = self.bed.get("node", "lab-node").unwrap_or_default();
                match &node["status"]["capacity"][VM_RESOURCE] {
                    now if *now == *limit => Ok(()),
                    now => Err(now.to_string()),
                }
            },
        );
    }

    pub(crate) fn begin_removal(&self) {
        self.bed
            .kubectl(&["delete", "kataconfig", "cluster", "--wait=false"])
            .text();
    }

    #[track_caller]
    pub(crate) fn wait_removed(&self) {
        wait_for("the KataConfig is gone", INSTALL_LIMIT, || {
            match self.bed.get("kataconfig", "cluster") {
                None => Ok(()),
                Some(config) => Err(config["status"].to_string()),
            }
        });
    }

    /// What the bed was installed with.
    pub(crate) fn begin_installation(&self) {
        self.bed.kubectl(&["apply", "-f", &self.original]).text();
    }

    #[track_caller]
    pub(crate) fn wait_installed(&self) {
        self.wait_condition("peer pods can run", |one| {
            one["type"] == "Ready" && one["status"] == "True"
        });
    }

    #[track_caller]
    pub(crate) fn wait_in_progress(&self, reason: &str) {
        self.wait_condition(reason, |one| {
            one["type"] == "InProgress" && one["reason"] == reason
        });
    }

    #[track_caller]
    fn wait_condition(&self, what: &str, is: impl Fn(&Value) -> bool) {
        wait_for(what, INSTALL_LIMIT, || {
            let config = self.bed.get("kataconfig", "cluster").unwrap_or_default();
            let conditions = config["status"]["conditions"].as_array();
            if conditions.is_some_and(|all| all.iter().any(&is)) {
                Ok(())
            } else {
                Err(config["status"].to_string())
            }
        });
    }

    /// Asks for a peer pod and does not have it made; the API server's words where it refuses.
    pub(crate) fn ask(&self) -> Result<(), String> {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"generateName": "chaos-asked-"},
            "spec": {"runtimeClassName": "kata-remote", "containers": [{"name": "main", "image": "none"}]},
        });
        let create = ["create", "--dry-run=server", "--output=json", "--filename=-"];
        let answer = self.bed.kubectl_with_input(&create, &pod.to_string());
        if answer.code != 0 {
            return Err(answer.stderr);
        }
        let pod: Value = serde_json::from_str(&answer.stdout).expect("kubectl prints JSON");
        let limit = &pod["spec"]["containers"][0]["resources"]["limits"][VM_RESOURCE];
        assert_eq!(limit, "1", "a peer pod that nobody counts: {pod}");
        Ok(())
    }

    /// Waits until no VM, nor anything that says that there is one, is left.
    #[track_caller]
    pub(crate) fn wait_no_machine(&self) {
        wait_for("no VM is left over", RESTART_LIMIT, || {
            let objects = self.bed.kubectl(&["get", "peerpods", "--all-namespaces"]).stdout;
            let folders = "ls /run/peerpod/instances | grep ^qemu-; ls /run/peerpod/pods";
            let left = self.bed.enter(&["sh", "-c", folders]).stdout;
            if objects.is_empty() && left.is_empty() && self.bed.machines() == 0 {
                Ok(())
            } else {
                Err(format!("{objects}{left}"))
            }
        });
        wait_no_disk_without_machine(self.bed);
    }
}

/// How long peer pods are refused.
#[derive(Default)]
pub(crate) struct Refusals {
    since: Option<Instant>,
    restart: Option<Instant>,
    longest: Duration,
}

impl Refusals {
    /// Something that answers for pods was killed.
    pub(crate) fn a_restart_begins(&mut self) {
        self.restart = Some(Instant::now());
    }

    /// Takes an answer; panics where refusals last longer than a restart takes.
    pub(crate) fn note<T>(&mut self, answer: Result<T, String>) -> Option<T> {
        match answer {
            Ok(accepted) => {
                self.since = None;
                Some(accepted)
            }
            Err(why) => {
                let since = *self.since.get_or_insert_with(Instant::now);
                self.longest = self.longest.max(since.elapsed());
                let restart = self.restart.map_or(since, |restart| restart.max(since));
                assert!(
                    restart.elapsed() < RESTART_LIMIT,
                    "refused for {:?}, and nothing was killed for {:?}: {why}",
                    since.elapsed(),
                    restart.elapsed()
                );
                None
            }
        }
    }

    pub(crate) fn longest(&self) -> Duration {
        self.longest
    }
}
