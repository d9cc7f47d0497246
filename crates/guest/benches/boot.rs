//! How the published disk boots on EC2, as far as that can be emulated: UEFI, its devices, DHCP, the instance metadata service. The
//! guest tells on its console how long the kernel took, and how long itself until its agent answered.
//!
//! Prints one line of JSON. `cargo xtask bench --only boot-ec2` runs it; an argument is the number of boots.

#[path = "../tests/ec2/instance.rs"]
mod instance;

use std::sync::mpsc;

use peerpods_testkit::{ec2::Processors, namespaces::in_namespaces};

use self::instance::{Booted, Image, Interfaces};

const BOOTS: usize = 5;

/// What stands around the figures on the console.
const KERNEL: [&str; 2] = ["the kernel handed over ", " ms after its start"];
const GUEST: [&str; 2] = ["the agent answers ", " ms after the kernel handed over"];

/// The figure between two texts.
fn figure(console: &str, [before, after]: [&str; 2]) -> u32 {
    let found = console
        .split_once(before)
        .and_then(|(_, rest)| rest.split_once(after));
    let number = found.and_then(|(number, _)| number.parse().ok());
    number.unwrap_or_else(|| panic!("there is no {before:?} with a number on the console:\n{console}"))
}

fn main() {
    let asked = std::env::args()
        .skip(1)
        .find_map(|argument| argument.parse().ok());
    let boots: usize = asked.unwrap_or(BOOTS);
    let Some(image) = Image::of(Processors::Amd64) else {
        return;
    };
    let (told, heard) = mpsc::channel();
    for _ in 0..boots {
        let (told, image) = (told.clone(), &image);
        // Each in a place of its own: addresses of the one before may be in use for a moment more.
        in_namespaces(|| async move {
            let folder = tempfile::tempdir().expect("a folder can be made");
            let booted = Booted::start(image, Interfaces::One, folder.path()).await;
            told.send(booted.machine.console()).expect("somebody listens");
            booted.delete_pod().await;
        });
    }
    drop(told);
    let consoles: Vec<String> = heard.into_iter().collect();
    let figures = |texts| -> Vec<u32> { consoles.iter().map(|console| figure(console, texts)).collect() };
    println!(
        "{{\"kernelMilliseconds\": {:?}, \"guestMilliseconds\": {:?}}}",
        figures(KERNEL),
        figures(GUEST)
    );
}
