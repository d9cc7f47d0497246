//! Archives unpacked directly: what they may set, and what hostile ones may not reach.
#![allow(clippy::unwrap_used, reason = "a failure here fails the test")]

mod image_support;

use std::{
    fs,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
    path::Path,
};

use image_support::{Archive, in_own_mounts};
use peerpods_guest::image::{ImageError, unpack_layer};
use tar::EntryType;

/// Unpacks into `place/layer`, with a file beside it that nothing may touch.
fn unpack(place: &Path, archive: Archive) -> Result<(), ImageError> {
    let _ = fs::remove_dir_all(place.join("layer"));
    fs::create_dir(place.join("layer")).unwrap();
    fs::write(place.join("outside"), "untouched").unwrap();
    let outcome = unpack_layer(
        &mut archive.bytes().as_slice(),
        &place.join("layer"),
        "sha256:test",
    );
    let attributes = fs::metadata(place.join("outside")).unwrap();
    assert_eq!(fs::read_to_string(place.join("outside")).unwrap(), "untouched");
    assert_eq!((attributes.nlink(), attributes.uid()), (1, 0));
    let names: Vec<_> = fs::read_dir(place)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names.len(), 2, "{names:?}");
    outcome
}

#[test]
fn paths_that_lead_out_are_refused() {
    in_own_mounts(async |place| {
        for name in ["../outside", "a/../../outside", "../../../../../../outside"] {
            let refused = unpack(&place, Archive::new().file(name, b"evil"));
            assert!(matches!(refused, Err(ImageError::RefusedEntry { .. })), "{name}");
            let refused = unpack(&place, Archive::new().hard_link("link", name));
            assert!(matches!(refused, Err(ImageError::RefusedEntry { .. })), "{name}");
        }
    });
}

#[test]
fn an_absolute_path_is_one_inside_the_layer() {
    in_own_mounts(async |place| {
        let outside = place.join("outside").display().to_string();
        unpack(&place, Archive::new().file(&outside, b"inside")).unwrap();
        let inside = place.join("layer").join(outside.trim_start_matches('/'));
        assert_eq!(fs::read(inside).unwrap(), b"inside");
    });
}

#[test]
fn a_symbolic_link_out_is_not_written_through() {
    in_own_mounts(async |place| {
        let out = place.display().to_string();
        for target in [
            out.as_str(),
            "..",
            "../../..",
            "/proc/self/cwd",
            "/proc/self/root",
        ] {
            // The target does not exist inside, so this fails; or it is the layer itself.
            let _ = unpack(
                &place,
                Archive::new()
                    .symlink("door", target)
                    .file("door/outside", b"evil"),
            );
            let _ = unpack(
                &place,
                Archive::new()
                    .symlink("door", target)
                    .file("door/.wh.outside", b""),
            );
            let _ = unpack(
                &place,
                Archive::new()
                    .symlink("door", target)
                    .file("door/.wh..wh..opq", b""),
            );
            let _ = unpack(
                &place,
                Archive::new()
                    .symlink("door", target)
                    .hard_link("stolen", "door/outside"),
            );
            assert!(!place.join("layer/stolen").exists(), "{target}");
        }
        // A file in the place of the link replaces it.
        let outside = place.join("outside").display().to_string();
        unpack(
            &place,
            Archive::new().symlink("door", &outside).file("door", b"mine"),
        )
        .unwrap();
        assert_eq!(fs::read(place.join("layer/door")).unwrap(), b"mine");
        // A hard link to the link is a second link, not the file behind it.
        unpack(
            &place,
            Archive::new()
                .symlink("door", &outside)
                .hard_link("second", "door"),
        )
        .unwrap();
        assert!(place.join("layer/second").is_symlink());
    });
}

#[test]
fn a_symbolic_link_inside_is_followed_inside() {
    in_own_mounts(async |place| {
        let archive = Archive::new()
            .directory("usr/")
            .directory("usr/lib/")
            .symlink("lib", "/usr/lib")
            .file("lib/a", b"x");
        unpack(&place, archive).unwrap();
        assert_eq!(fs::read(place.join("layer/usr/lib/a")).unwrap(), b"x");
    });
}

#[test]
fn a_directory_that_becomes_a_link_out_is_left_at_once() {
    in_own_mounts(async |place| {
        let out = place.display().to_string();
        let archive = Archive::new()
            .directory("d/")
            .file("d/a", b"")
            .symlink("d", &out)
            .file("d/outside", b"evil");
        assert!(unpack(&place, archive).is_err());
    });
}

#[test]
fn attributes_are_taken_over() {
    in_own_mounts(async |place| {
        let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0x0a, 0, 0, 0, 0, 0, 0, 0];
        let long = format!("{}/{}", "d".repeat(120), "f".repeat(200));
        let archive = Archive::new()
            .entry(EntryType::Directory, "tmp/", "", 0o1777, b"")
            .entry(EntryType::Regular, "tmp/su", "", 0o4755, b"su")
            .pax(&[
                ("SCHILY.xattr.security.capability", &capability),
                ("mtime", b"1700000000.25"),
            ])
            .file("ping", b"ping")
            .pax(&[("SCHILY.xattr.trusted.overlay.redirect", b"/etc")])
            .directory("plain/")
            .pax(&[("path", long.as_bytes())])
            .file("short", b"long")
            .hard_link("also", "tmp/su")
            .entry(EntryType::Char, "null", "", 0o666, b"")
            .entry(EntryType::Fifo, "pipe", "", 0o600, b"")
            .symlink("link", "/nowhere");
        unpack(&place, archive).unwrap();
        let layer = place.join("layer");
        let at = |name: &str| fs::symlink_metadata(layer.join(name)).unwrap();
        assert_eq!(at("tmp").mode() & 0o7777, 0o1777);
        assert_eq!(at("tmp").mtime(), 1_234_567_890);
        assert_eq!(
            (
                at("tmp/su").mode() & 0o7777,
                at("tmp/su").uid(),
                at("tmp/su").gid()
            ),
            (0o4755, 1000, 2000)
        );
        assert_eq!((at("also").ino(), at("also").nlink()), (at("tmp/su").ino(), 2));
        assert_eq!(
            (at("ping").mtime(), at("ping").mtime_nsec()),
            (1_700_000_000, 250_000_000)
        );
        let mut value = [0; 64];
        let length = rustix::fs::getxattr(layer.join("ping"), "security.capability", &mut value).unwrap();
        assert_eq!(value[..length], capability);
        assert!(rustix::fs::getxattr(layer.join("plain"), "trusted.overlay.redirect", &mut value).is_err());
        assert_eq!(fs::read(layer.join(long)).unwrap(), b"long");
        assert!(at("null").file_type().is_char_device() && at("null").rdev() == rustix::fs::makedev(1, 3));
        assert_eq!(at("null").permissions().mode() & 0o777, 0o666);
        assert!(at("pipe").file_type().is_fifo());
        assert_eq!((at("link").uid(), at("link").mtime()), (1000, 1_234_567_890));
    });
}

#[test]
fn a_whiteout_and_its_replacement_do_not_depend_on_their_order() {
    in_own_mounts(async |place| {
        let first = Archive::new()
            .file(".wh.d", b"")
            .directory("d/")
            .file("d/new", b"");
        let last = Archive::new()
            .directory("d/")
            .file("d/new", b"")
            .file(".wh.d", b"");
        for archive in [first, last] {
            unpack(&place, archive).unwrap();
            let mut value = [0; 8];
            let directory = place.join("layer/d");
            assert_eq!(
                rustix::fs::getxattr(&directory, "trusted.overlay.opaque", &mut value).unwrap(),
                1
            );
            assert!(directory.join("new").is_file());
        }
    });
}

#[test]
fn headers_are_bounded_and_checked() {
    in_own_mounts(async |place| {
        let huge = Archive::new().entry(
            EntryType::GNULongName,
            "././@LongLink",
            "",
            0,
            &vec![b'a'; 2 << 20],
        );
        assert!(matches!(
            unpack(&place, huge),
            Err(ImageError::LimitExceeded { .. })
        ));
        let sparse = Archive::new().entry(EntryType::GNUSparse, "s", "", 0o644, b"");
        assert!(matches!(
            unpack(&place, sparse),
            Err(ImageError::LayerStream { .. })
        ));
        let mut bytes = Archive::new().file("a", &[1; 2000]).bytes();
        bytes.truncate(1024);
        let cut = unpack_layer(&mut bytes.as_slice(), &place.join("layer"), "sha256:test");
        assert!(matches!(cut, Err(ImageError::LayerStream { .. })));
        let mut bytes = Archive::new().file("a", b"x").bytes();
        bytes[0] = b'b';
        let changed = unpack_layer(&mut bytes.as_slice(), &place.join("layer"), "sha256:test");
        assert!(matches!(changed, Err(ImageError::LayerStream { .. })));
    });
}

/// Any sequence of these entries, hostile or not, changes nothing beside the layer.
#[test]
fn no_sequence_of_entries_reaches_outside() {
    use proptest::{prelude::*, sample::select, test_runner::TestRunner};

    in_own_mounts(async |place| {
        let out: &'static str = place.display().to_string().leak();
        let outside: &'static str = format!("{out}/outside").leak();
        let names = [
            "a",
            "a/",
            "a/b",
            "a/b/outside",
            "b",
            "b/outside",
            "./",
            "../outside",
            ".wh.a",
            "a/.wh.b",
            "a/.wh..wh..opq",
        ];
        let links = [
            "",
            "a",
            "b",
            "..",
            "../outside",
            "/",
            "/a",
            "a/b",
            "/proc/self/root",
            out,
            outside,
        ];
        let kinds = [
            EntryType::Regular,
            EntryType::Directory,
            EntryType::Symlink,
            EntryType::Link,
            EntryType::Fifo,
            EntryType::Char,
        ];
        let entry = (
            select(kinds.to_vec()),
            select(names.to_vec()),
            select(links.to_vec()),
        );
        let mut runner = TestRunner::new(ProptestConfig {
            cases: 2000,
            failure_persistence: None,
            ..Default::default()
        });
        let tried = runner.run(&proptest::collection::vec(entry, 1..12), |entries| {
            let archive = entries
                .iter()
                .fold(Archive::new(), |archive, (kind, name, link)| {
                    let content: &[u8] = if *kind == EntryType::Regular { b"evil" } else { b"" };
                    archive.entry(*kind, name, link, 0o4777, content)
                });
            let _ = unpack(&place, archive);
            Ok(())
        });
        tried.unwrap();
    });
}
