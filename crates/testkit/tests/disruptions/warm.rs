//! A node that keeps warm VMs: pods get them, nobody gets one twice, and whatever dies, none is left.

use std::collections::BTreeSet;

use peerpods_testkit::{Bed, Pod, PodBuilder, Runtime, container, wait_for};
use serde_json::{Value, json};

use crate::{RESTART_LIMIT, instances_of, kill_daemon, wait_no_machine};

const ADAPTOR: &str = "cloud-api-adapt";

/// The node keeps VMs for as long as this is there.
struct Pool<'bed> {
    bed: &'bed Bed,
    size: usize,
}

impl<'bed> Pool<'bed> {
    /// Sets the pool's size, as an administrator does: the operator replaces the adaptor.
    fn of(bed: &'bed Bed, size: usize) -> Self {
        let pool = Self { bed, size };
        pool.set(size);
        pool.wait_full();
        pool
    }

    fn set(&self, size: usize) {
        self.change(&json!(size.to_string()));
    }

    fn change(&self, setting: &Value) {
        self.bed.change_settings(&json!({"WARM_VMS": setting}));
    }

    /// Waits until as many VMs wait as are to, and gives their names.
    #[track_caller]
    fn wait_full(&self) -> BTreeSet<String> {
        wait_for("the pool is full", RESTART_LIMIT, || {
            let (waiting, log) = (warm_instances(self.bed), self.bed.adaptor_log());
            // The last of these lines tells how the pool is.
            let news = [
                "the pool of warm VMs is full",
                "is being claimed",
                "a warm VM is ended",
                "shims are served",
            ];
            let last = log
                .lines()
                .rev()
                .find(|line| news.iter().any(|word| line.contains(word)));
            if waiting.len() == self.size && last.is_some_and(|line| line.contains(news[0])) {
                Ok(waiting)
            } else {
                Err(format!("{waiting:?}, {last:?}"))
            }
        })
    }
}

impl Drop for Pool<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.bed.adaptor_log());
        }
        self.change(&Value::Null);
        wait_for("nothing is left of the pool", RESTART_LIMIT, || {
            let left = warm_instances(self.bed);
            if left.is_empty() {
                Ok(())
            } else {
                Err(format!("{left:?}"))
            }
        });
    }
}

/// Names of the VMs that wait for a pod.
fn warm_instances(bed: &Bed) -> BTreeSet<String> {
    let script = "for r in $(grep -l '\"assignment\":\"warm\"' /run/peerpod/instances/*/record.json 2>/dev/null); do \
                  basename $(dirname $r); done";
    let output = bed.enter(&["sh", "-c", script]);
    output.stdout.lines().map(str::to_owned).collect()
}

fn pod(name: &str) -> PodBuilder {
    PodBuilder::new(name, Runtime::PeerPod, vec![container("main", "sleep 1000")])
}

#[track_caller]
fn instance_of(bed: &Bed, pod: &Pod<'_>) -> String {
    let found = instances_of(bed, pod);
    assert_eq!(found.len(), 1, "the pod has one VM");
    found.into_iter().next().unwrap()
}

/// What must differ between any two VMs, whatever they were made from.
fn identity(pod: &Pod<'_>) -> Vec<String> {
    let questions = [
        "cat /proc/sys/kernel/random/uuid",
        "cat /proc/sys/kernel/random/boot_id",
        "od -A n -t x1 -N 32 /dev/urandom",
    ];
    questions.map(|question| pod.shell(question)).into()
}

#[test]
fn a_pod_gets_a_vm_that_waited_and_the_next_pod_another() {
    let bed = Bed::connect();
    let pool = Pool::of(&bed, 1);
    let waiting = pool.wait_full();
    let first = pod("warm").start(&bed);
    let (vm, taken) = (instance_of(&bed, &first), waiting.first().unwrap());
    assert_eq!(vm, *taken, "the pod has the VM that waited");
    assert_eq!(first.shell("echo works"), "works");

    let refilled = pool.wait_full();
    assert!(
        !refilled.contains(&vm),
        "the pod's VM is not in the pool: {refilled:?}"
    );
    first.delete();
    let left = bed.enter(&["ls", &format!("/run/peerpod/instances/{vm}")]);
    assert_ne!(left.code, 0, "the VM ended with its pod: {}", left.stdout);

    let second = pod("warm").start(&bed);
    assert_eq!(
        instances_of(&bed, &second),
        Vec::from_iter(refilled),
        "never a VM that had a pod"
    );
}

#[test]
fn two_pods_at_once_get_two_vms_that_have_nothing_in_common() {
    let bed = Bed::connect();
    let pool = Pool::of(&bed, 2);
    let waiting = pool.wait_full();
    let (left, right) = (pod("warm-left").create(&bed), pod("warm-right").create(&bed));
    left.wait_ready();
    right.wait_ready();
    let both = BTreeSet::from([instance_of(&bed, &left), instance_of(&bed, &right)]);
    assert_eq!(both, waiting, "each pod has one of the VMs that waited");

    for (of_left, of_right) in identity(&left).iter().zip(&identity(&right)) {
        assert_ne!(of_left, of_right);
    }
    let keys = bed
        .enter(&[
            "sh",
            "-c",
            "grep -h -o '\"server_key\":\"[0-9a-f]*\"' /run/peerpod/pods/*/connect.json",
        ])
        .text();
    let distinct: BTreeSet<&str> = keys.lines().collect();
    assert_eq!(
        distinct.len(),
        keys.lines().count(),
        "every VM has a key of its own"
    );
    let here = bed.enter(&["date", "+%s"]).text();
    for pod in [&left, &right] {
        let (there, here): (i64, i64) = (pod.shell("date +%s").parse().unwrap(), here.parse().unwrap());
        assert!(
            (there - here).abs() <= 3,
            "the VM's clock is right: {there} and not {here}"
        );
    }
}

#[test]
fn killed_while_a_vm_is_claimed_the_adaptor_makes_it_the_pods_all_the_same() {
    let bed = Bed::connect();
    let pool = Pool::of(&bed, 1);
    let before = pool.wait_full();
    let claims = |bed: &Bed| bed.adaptor_log().matches("the VM is being claimed").count();
    let earlier = claims(&bed);
    let pod = pod("warm-killed").create(&bed);
    wait_for("the claim begins", RESTART_LIMIT, || {
        if claims(&bed) > earlier {
            Ok(())
        } else {
            Err(String::new())
        }
    });
    kill_daemon(&bed, ADAPTOR);
    pod.wait_ready();
    let vm = instance_of(&bed, &pod);
    let refilled = pool.wait_full();
    assert!(
        refilled.is_disjoint(&before) && !refilled.contains(&vm),
        "{before:?}, {vm}, {refilled:?}"
    );
    assert_eq!(pod.shell("echo works"), "works");
    let name = pod.name.clone();
    pod.delete();
    let left = bed.enter(&["grep", "-r", "-l", "-a", &name, "/run/peerpod"]);
    assert_eq!(left.stdout, "", "something of the pod is left");
}

#[test]
fn a_vm_that_dies_while_it_waits_costs_no_pod_anything() {
    let bed = Bed::connect();
    let pool = Pool::of(&bed, 1);
    let dead = pool.wait_full();
    bed.enter(&["pkill", "-KILL", "--full", "[g]uest=podvm-warm"])
        .text();
    let pod = pod("warm-dead").start(&bed);
    assert!(!dead.contains(&instance_of(&bed, &pod)));
    assert!(pool.wait_full().is_disjoint(&dead));
    bed.kubectl(&["delete", "pod", &pod.name, "--now"]).text();
    wait_no_machine(&bed, &pod);
}
