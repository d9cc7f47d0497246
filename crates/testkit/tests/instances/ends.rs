//! Several instances at once, and how they end other than by their pods.

use peerpods_testkit::{Bed, Pod};

use crate::{
    BOOT_LIMIT,
    account::{Account, terminate},
    created, instance_of, wait_as_before, wait_killed,
};

#[test]
fn pods_at_once_have_an_instance_each_and_learn_of_their_ends() {
    let bed = Bed::connect();
    let before = Account::of(&bed);
    let pods = ["terminated", "broken", "kept"].map(|name| created(&bed, name));
    pods.iter().for_each(|pod| pod.wait_ready_within(BOOT_LIMIT));
    let ids = pods.each_ref().map(|pod| instance_of(&bed, pod));
    let mut launched = ids.to_vec();
    launched.sort();
    let mut living = Account::of(&bed).instances;
    living.sort();
    assert_eq!(living, launched);

    // Somebody ends one in EC2, and another's machine breaks: EC2 has neither any more, and their pods say so.
    let [terminated, broken, kept] = pods;
    terminate(&bed, &ids[0]);
    wait_killed(&terminated);
    let machine = format!("[q]emu-system.*/{}/", ids[1]);
    bed.enter(&["pkill", "-KILL", "--full", &machine]).text();
    wait_killed(&broken);
    assert_eq!(Account::of(&bed).instances, [ids[2].clone()]);
    assert_eq!(kept.shell("echo works"), "works");

    [terminated, broken, kept].into_iter().for_each(Pod::delete);
    wait_as_before(&bed, &before);
}
