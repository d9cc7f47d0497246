//! An operator that is killed at random points comes to the same end.

use std::{env, thread::sleep, time::Duration};

use fastrand::Rng;
use serde_json::json;

use crate::lab::{Lab, NAMESPACE};

/// Replays a run: the seed is printed by each.
const SEED: &str = "PEERPODS_TEST_SEED";
/// How many times it is killed.
const KILLS: usize = 6;
/// The longest that it lives: a whole installation takes about that.
const LIFE: Duration = Duration::from_millis(2500);

/// Chance that can be repeated.
fn random() -> Rng {
    let given = env::var(SEED).ok();
    let given = given.map(|text| text.parse().expect("PEERPODS_TEST_SEED is a number"));
    let seed = given.unwrap_or_else(|| fastrand::u64(..));
    eprintln!("{SEED}={seed}");
    Rng::with_seed(seed)
}

#[test]
fn killed_at_random_points_the_end_is_what_the_specs_say() {
    let Some(mut lab) = Lab::new() else { return };
    let mut random = random();
    lab.create_workers(&["one", "two", "three"]);
    let before = lab.census();
    lab.play();
    let killed = |lab: &Lab, random: &mut Rng| {
        let operator = lab.start_operator("operator-1");
        sleep(LIFE.mul_f64(random.f64()));
        operator.kill();
    };
    lab.create_kata_config("kata");
    for round in 0..KILLS {
        killed(&lab, &mut random);
        match random.u8(..3) {
            0 => {
                _ = lab.kubectl(&[
                    "label",
                    "node",
                    "two",
                    "--overwrite",
                    "node-role.kubernetes.io/worker-",
                ])
            }
            1 => {
                _ = lab.kubectl(&[
                    "label",
                    "node",
                    "two",
                    "--overwrite",
                    "node-role.kubernetes.io/worker=",
                ])
            }
            _ => {
                lab.settings(json!({"CLOUD_PROVIDER": "qemu", "PEERPODS_LIMIT_PER_NODE": round.to_string()}))
            }
        }
    }
    lab.kubectl(&[
        "label",
        "node",
        "two",
        "--overwrite",
        "node-role.kubernetes.io/worker=",
    ]);
    lab.settings(json!({"CLOUD_PROVIDER": "qemu", "PEERPODS_LIMIT_PER_NODE": "6"}));
    let operator = lab.start_operator("operator-1");
    lab.wait_condition("kata", "Ready", "True", "Ready");
    for node in ["one", "two", "three"] {
        lab.wait_capacity(node, Some("6"));
    }
    operator.kill();
    lab.kubectl(&["delete", "kataconfig", "kata", "--wait=false"]);
    for _ in 0..KILLS {
        killed(&lab, &mut random);
    }
    let _operator = lab.start_operator("operator-1");
    lab.wait_gone(&["kataconfig", "kata"]);
    lab.wait_gone(&[
        "peerpodconfig",
        "peerpodconfig-openshift",
        "--namespace",
        NAMESPACE,
    ]);
    for node in ["one", "two", "three"] {
        lab.wait_capacity(node, None);
    }
    assert_eq!(lab.census(), before);
}
