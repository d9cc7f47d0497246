//! Pulls from a real registry: what arrives, what is refused, and what is left behind.
#![allow(clippy::unwrap_used, reason = "a failure here fails the test")]

mod image_support;

use std::{fs, net::TcpListener, os::unix::fs::MetadataExt as _};

use image_support::{
    Archive, Layer, Registry, canned_server, content, in_own_mounts, insecure, open, wait_for,
};
use peerpods_guest::image::{Digest, ImageError, Unreachable, mount_rootfs};
use tar::EntryType;

#[test]
fn layers_of_every_packing_make_one_root_file_system() {
    let Some(registry) = Registry::start() else { return };
    in_own_mounts(async |place| {
        let base = Archive::new()
            .entry(EntryType::Directory, "./", "", 0o751, b"")
            .directory("etc/")
            .file("etc/passwd", b"root\n")
            .file("etc/motd", b"old\n")
            .directory("cache/")
            .file("cache/stale", b"stale")
            .directory("gone/")
            .file("gone/file", b"x");
        let changes = Archive::new()
            .entry(EntryType::Directory, "./", "", 0o751, b"")
            .directory("etc/")
            .file("etc/.wh.passwd", b"")
            .file("etc/motd", b"new\n")
            .file("cache/.wh..wh..opq", b"")
            .file("cache/fresh", b"fresh")
            .file(".wh.gone", b"");
        let top = Archive::new()
            .entry(EntryType::Directory, "./", "", 0o751, b"")
            .file("hello", b"hello\n");
        let layers = [
            Layer::gzip(&base.bytes()),
            Layer::zstd(&changes.bytes()),
            Layer::plain(top.bytes()),
        ];
        registry.push_honest("app:v1", &layers.each_ref()).await;

        let store = open(&place.join("store"), registry.settings());
        let image = store
            .pull(&registry.name("app:v1").parse().unwrap(), None)
            .await
            .unwrap();
        assert_eq!(image.layers.len(), 3);
        assert_eq!(
            image.config.config().as_ref().unwrap().env().as_ref().unwrap(),
            &["GREETING=hello"]
        );
        assert_eq!(content(&place.join("store")), (3, 0));

        let root = place.join("rootfs");
        mount_rootfs(&image, &root, &place.join("scratch")).unwrap();
        assert_eq!(fs::read_to_string(root.join("hello")).unwrap(), "hello\n");
        assert_eq!(fs::read_to_string(root.join("etc/motd")).unwrap(), "new\n");
        assert!(!root.join("etc/passwd").exists() && !root.join("gone").exists());
        let cache: Vec<_> = fs::read_dir(root.join("cache"))
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        assert_eq!(cache, ["fresh"]);
        let attributes = fs::metadata(&root).unwrap();
        assert_eq!(
            (attributes.mode() & 0o7777, attributes.uid(), attributes.gid()),
            (0o751, 1000, 2000)
        );

        // What the container writes stays out of the layers that others share.
        fs::write(root.join("etc/motd"), "mine\n").unwrap();
        assert_eq!(
            fs::read_to_string(image.layers[1].path().join("etc/motd")).unwrap(),
            "new\n"
        );
    });
}

#[test]
fn as_many_layers_as_allowed_and_repeated_ones_can_be_mounted() {
    let Some(registry) = Registry::start() else { return };
    in_own_mounts(async |place| {
        let layer = |index: usize| {
            Layer::plain(
                Archive::new()
                    .file("which", format!("{index}").as_bytes())
                    .bytes(),
            )
        };
        // The last layer is also the first: only its higher place counts.
        let layers: Vec<_> = (0..127).chain([0]).map(layer).collect();
        registry
            .push_honest("many:v1", &layers.iter().collect::<Vec<_>>())
            .await;
        let store = open(&place.join("store"), registry.settings());
        let image = store
            .pull(&registry.name("many:v1").parse().unwrap(), None)
            .await
            .unwrap();
        mount_rootfs(&image, &place.join("rootfs"), &place.join("scratch")).unwrap();
        assert_eq!(fs::read_to_string(place.join("rootfs/which")).unwrap(), "0");
    });
}

#[test]
fn two_pulls_at_once_download_a_layer_once() {
    let Some(registry) = Registry::start() else { return };
    in_own_mounts(async |place| {
        let shared = Layer::gzip(&Archive::new().file("big", &vec![7; 8 << 20]).bytes());
        let own = Layer::gzip(&Archive::new().file("own", b"x").bytes());
        registry.push_honest("one:v1", &[&shared]).await;
        registry.push_honest("two:v1", &[&shared, &own]).await;
        let store = open(&place.join("store"), registry.settings());
        let (one, two) = (
            registry.name("one:v1").parse().unwrap(),
            registry.name("two:v1").parse().unwrap(),
        );
        let (one, two) = tokio::join!(store.pull(&one, None), store.pull(&two, None));
        assert_eq!(one.unwrap().layers[0], two.unwrap().layers[0]);
        assert_eq!(registry.downloads(shared.digest()), 1);
    });
}

#[test]
fn a_layer_that_was_tampered_with_leaves_nothing() {
    let Some(registry) = Registry::start() else { return };
    in_own_mounts(async |place| {
        let good = Layer::plain(Archive::new().file("a", &[1; 4096]).bytes());
        registry.push_honest("app:v1", &[&good]).await;
        let blob = registry.blob(good.digest());
        let mut bytes = fs::read(&blob).unwrap();
        bytes[1000] ^= 1;
        fs::write(&blob, bytes).unwrap();
        let store = open(&place.join("store"), registry.settings());
        let error = store
            .pull(&registry.name("app:v1").parse().unwrap(), None)
            .await
            .unwrap_err();
        assert!(
            matches!(&error, ImageError::DigestMismatch { subject, .. } if subject.contains(&good.digest().hex()))
        );
        assert!(!error.retryable());
        assert_eq!(content(&place.join("store")), (0, 0));
    });
}

#[test]
fn a_configuration_that_lies_about_a_layer_is_found_out() {
    let Some(registry) = Registry::start() else { return };
    in_own_mounts(async |place| {
        let layer = Layer::gzip(&Archive::new().file("a", b"x").bytes());
        registry
            .push("app:v1", &[&layer], &[Digest::of(b"something else")])
            .await;
        let store = open(&place.join("store"), registry.settings());
        let error = store
            .pull(&registry.name("app:v1").parse().unwrap(), None)
            .await
            .unwrap_err();
        assert!(matches!(error, ImageError::DigestMismatch { .. }), "{error}");
        assert_eq!(content(&place.join("store")), (0, 0));
    });
}

#[test]
fn an_abandoned_pull_leaves_nothing() {
    let Some(registry) = Registry::start() else { return };
    in_own_mounts(async |place| {
        let big = Layer::plain(Archive::new().file("big", &vec![3; 64 << 20]).bytes());
        registry.push_honest("app:v1", &[&big]).await;
        let store = open(&place.join("store"), registry.settings());
        let image = registry.name("app:v1").parse().unwrap();
        let begun = async {
            while content(&place.join("store")) == (0, 0) {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            biased;
            () = begun => {}
            outcome = store.pull(&image, None) => panic!("not abandoned: {outcome:?}"),
        }
        wait_for("the leftovers to go", || {
            (content(&place.join("store")) == (0, 0)).then_some(())
        });
        store.pull(&image, None).await.unwrap();
    });
}

#[test]
fn a_layer_that_expands_without_end_is_stopped() {
    let Some(registry) = Registry::start() else { return };
    in_own_mounts(async |place| {
        let bomb = Layer::gzip(&Archive::new().file("zeros", &vec![0; 32 << 20]).bytes());
        registry.push_honest("bomb:v1", &[&bomb]).await;
        let mut settings = registry.settings();
        settings.expanded_limit = 1 << 20;
        let store = open(&place.join("store"), settings);
        let error = store
            .pull(&registry.name("bomb:v1").parse().unwrap(), None)
            .await
            .unwrap_err();
        assert!(
            matches!(
                error,
                ImageError::LimitExceeded {
                    limit: 0x0010_0000,
                    ..
                }
            ),
            "{error}"
        );
        assert_eq!(content(&place.join("store")), (0, 0));
    });
}

#[test]
fn an_unknown_image_and_an_unknown_layer_type_are_named() {
    let Some(registry) = Registry::start() else { return };
    in_own_mounts(async |place| {
        let store = open(&place.join("store"), registry.settings());
        let error = store
            .pull(&registry.name("absent:v1").parse().unwrap(), None)
            .await
            .unwrap_err();
        assert!(
            matches!(&error, ImageError::NotFound { answer, .. } if answer.contains("unknown")),
            "{error}"
        );
        let mut layer = Layer::plain(b"module".to_vec());
        layer.media_type = "application/wasm";
        registry.push_honest("wasm:v1", &[&layer]).await;
        let error = store
            .pull(&registry.name("wasm:v1").parse().unwrap(), None)
            .await
            .unwrap_err();
        assert!(
            matches!(&error, ImageError::UnsupportedMediaType { media_type, .. } if media_type == "application/wasm")
        );
    });
}

/// The error of pulling from something that is no registry.
async fn pull_error(address: std::net::SocketAddr) -> ImageError {
    let place = tempfile::tempdir().unwrap();
    let store = open(place.path(), insecure(address));
    let error = store
        .pull(&format!("{address}/app:v1").parse().unwrap(), None)
        .await
        .unwrap_err();
    assert_eq!(content(place.path()), (0, 0));
    error
}

#[tokio::test]
async fn a_registry_that_is_not_there_or_silent_is_unreachable_for_that_reason() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for (address, expected) in [
        (nobody, Unreachable::Refused),
        (canned_server(None), Unreachable::Stalled),
    ] {
        let error = pull_error(address).await;
        assert!(
            error.retryable() && error.to_string().contains(&address.to_string()),
            "{error}"
        );
        assert!(
            matches!(&error, ImageError::RegistryUnreachable { cause, .. } if *cause == expected),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_plain_registry_that_was_not_declared_insecure_is_not_talked_to_in_plain() {
    let address = canned_server(Some(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec()));
    let place = tempfile::tempdir().unwrap();
    let store = open(place.path(), Default::default());
    let error = store
        .pull(&format!("{address}/app:v1").parse().unwrap(), None)
        .await
        .unwrap_err();
    assert!(
        matches!(
            &error,
            ImageError::RegistryUnreachable {
                cause: Unreachable::Tls(_),
                ..
            }
        ) && !error.retryable(),
        "{error}"
    );
}

#[tokio::test]
async fn an_unknown_host_is_a_matter_of_names() {
    let place = tempfile::tempdir().unwrap();
    let store = open(place.path(), Default::default());
    let error = store
        .pull(&"registry.invalid/app:v1".parse().unwrap(), None)
        .await
        .unwrap_err();
    assert!(
        matches!(
            &error,
            ImageError::RegistryUnreachable {
                cause: Unreachable::NameResolution(_),
                ..
            }
        ),
        "{error}"
    );
}

#[tokio::test]
async fn a_refusal_is_told_from_an_absence() {
    let address = canned_server(Some(
        b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 7\r\nConnection: close\r\n\r\nnot you".to_vec(),
    ));
    let error = pull_error(address).await;
    assert!(
        matches!(&error, ImageError::Unauthorized { answer, .. } if answer == "not you"),
        "{error}"
    );
}

#[tokio::test]
async fn a_huge_manifest_is_not_read_to_its_end() {
    let declared = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\nConnection: close\r\n\r\n".to_vec();
    let mut undeclared = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n".to_vec();
    undeclared.resize(5 << 20, b' ');
    for answer in [declared, undeclared] {
        let error = pull_error(canned_server(Some(answer))).await;
        assert!(
            matches!(error, ImageError::LimitExceeded { unit: "bytes", .. }),
            "{error}"
        );
    }
}
