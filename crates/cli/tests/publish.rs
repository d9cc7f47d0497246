//! Images published, listed and removed from a prompt, with moto in AWS's place.
//!
//! `PEERPODS_TEST_MOTO` names the folder that moto is installed in; without it this test says so and passes.
#![allow(clippy::unwrap_used)] // A test stops where its bed fails.

use std::{fs::File, os::unix::fs::FileExt, process::Command};

use peerpods_image::pack;
use peerpods_testkit::ec2::ImageRegistry;
use serde_json::Value;

/// What a command prints.
fn peerpodctl(registry: &ImageRegistry, line: &str) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_peerpodctl"))
        .args(line.split(' '))
        .env("AWS_ENDPOINT_URL", registry.url())
        .env("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
        .env("AWS_SECRET_ACCESS_KEY", "secret")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "peerpodctl {line}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn an_image_is_published_copied_shared_listed_and_removed() {
    let Some(registry) = ImageRegistry::start() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("image");
    std::fs::create_dir(&image).unwrap();
    let disk = File::create_new(image.join("disk.raw")).unwrap();
    disk.set_len(64 << 20).unwrap();
    disk.write_all_at(b"boots", 1 << 20).unwrap();

    let publish = format!(
        "image publish --region eu-central-1 --copy-to us-east-1 --share 210987654321 --output json {}",
        image.display()
    );
    let published: Value = serde_json::from_str(&peerpodctl(&registry, &publish)).unwrap();
    let regions: Vec<&str> = published
        .as_array()
        .unwrap()
        .iter()
        .map(|image| image["region"].as_str().unwrap())
        .collect();
    assert_eq!(regions, ["eu-central-1", "us-east-1"]);
    let again: Value = serde_json::from_str(&peerpodctl(&registry, &publish)).unwrap();
    assert_eq!(again, published);

    let id = published[0]["image_id"].as_str().unwrap();
    // As the operator's Job does: out of a container image, which nobody writes to.
    pack(&image.join("disk.raw"), &image.join("disk.raw.gz")).unwrap();
    std::fs::remove_file(image.join("disk.raw")).unwrap();
    let (work, told) = (folder.path().join("work"), folder.path().join("termination-log"));
    std::fs::create_dir(&work).unwrap();
    peerpodctl(
        &registry,
        &format!(
            "image publish --region eu-central-1 --unpack-into {} --id-file {} {}",
            work.display(),
            told.display(),
            image.display()
        ),
    );
    assert_eq!(std::fs::read_to_string(&told).unwrap(), id);

    let listed = peerpodctl(&registry, "image list --region eu-central-1");
    assert_eq!(listed.lines().count(), 1);
    assert!(listed.starts_with(id), "{listed}");
    assert_eq!(
        peerpodctl(
            &registry,
            &format!("image prune --region eu-central-1 --keep 0 --spare {id}")
        ),
        "removed nothing\n"
    );
    let told = peerpodctl(&registry, "image prune --region eu-central-1 --keep 0 --dry-run");
    assert!(told.starts_with(&format!("would remove {id} snap-")), "{told}");
    let removed = peerpodctl(&registry, "image prune --region eu-central-1 --keep 0");
    assert_eq!(removed, told.replace("would remove", "removed"));
    assert_eq!(
        peerpodctl(&registry, "image list --region eu-central-1"),
        "no images\n"
    );
    // The copy is another region's.
    assert_eq!(
        peerpodctl(&registry, "image list --region us-east-1")
            .lines()
            .count(),
        1
    );
}
