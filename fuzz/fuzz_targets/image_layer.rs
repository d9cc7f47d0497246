//! Any bytes as a layer's archive: unpacking ends, and changes nothing beside the layer's directory.
#![no_main]

use std::fs;

use libfuzzer_sys::fuzz_target;
use peerpods_guest::image::unpack_layer;

fuzz_target!(|archive: &[u8]| {
    let place = tempfile::tempdir().expect("the fuzzer runs where it can make directories");
    let (layer, outside) = (place.path().join("layer"), place.path().join("outside"));
    fs::create_dir(&layer).expect("the directory is new");
    fs::write(&outside, "untouched").expect("the directory is ours");
    let before = fs::metadata(&outside).expect("the file was just written");

    let _ = unpack_layer(&mut &archive[..], &layer, "sha256:fuzz");

    let after = fs::metadata(&outside).expect("unpacking must not remove what is beside the layer");
    assert_eq!(before.modified().ok(), after.modified().ok());
    assert_eq!(before.permissions(), after.permissions());
    assert_eq!(fs::read(&outside).expect("it was readable"), b"untouched");
    assert_eq!(fs::read_dir(place.path()).expect("it was listable").count(), 2);
});
