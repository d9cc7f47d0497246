//! Docker configurations from anywhere, and images by any name: credentials are found, or refused with an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use peerpods_proto::registry::{DockerConfig, Keyring, Repository};

fuzz_target!(|input: (&str, &[u8])| {
    let (image, document) = input;
    let mut keyring = Keyring::default();
    for parse in [DockerConfig::parse, DockerConfig::parse_legacy] {
        match parse(document) {
            Ok(config) => keyring.add("fuzz", config),
            Err(error) => drop(error.to_string()),
        }
    }
    if let Ok(repository) = Repository::of_image(image) {
        // What is written is read again as the same.
        assert_eq!(Repository::of_image(&repository.to_string()), Ok(repository.clone()));
        keyring.find(&repository);
        keyring.find_unusable(&repository);
    }
});
