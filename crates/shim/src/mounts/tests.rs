//! What becomes of a container's mounts.

use super::*;

const POD: &str = "pods/0ab5f1c2-77aa-4c1e-9d55-0123456789ab";

fn bind(source: &Path, destination: &str) -> Mount {
    Mount {
        destination: destination.to_owned(),
        source: source.display().to_string(),
        type_: "bind".to_owned(),
        options: vec!["rbind".to_owned(), "rprivate".to_owned(), "rw".to_owned()],
        ..Default::default()
    }
}

fn plan(mounts: Vec<Mount>) -> Result<Plan, Error> {
    Plan::new(mounts, "pod", HostPaths::Copy, &VolumeLimits::default())
}

fn folder_of(root: &tempfile::TempDir, name: &str) -> PathBuf {
    let path = root.path().join(POD).join(name);
    fs::create_dir_all(&path).unwrap();
    path
}

#[test]
fn containers_of_a_pod_meet_in_their_empty_dir() {
    let root = tempfile::tempdir().unwrap();
    let volume = folder_of(&root, "volumes/kubernetes.io~empty-dir/work");
    let one = plan(vec![bind(&volume, "/one")]).unwrap();
    let other = plan(vec![bind(&volume, "/other")]).unwrap();
    assert_eq!(one.mounts[0].source, other.mounts[0].source);
    assert_eq!(one.storages[0].mount_point, one.mounts[0].source);
    assert!(one.copies.is_empty());
}

#[test]
fn an_empty_dir_has_the_mode_and_group_of_the_nodes() {
    use std::os::unix::fs::PermissionsExt;

    let root = tempfile::tempdir().unwrap();
    let volume = folder_of(&root, "volumes/kubernetes.io~empty-dir/work");
    std::os::unix::fs::chown(&volume, None, Some(2000)).unwrap();
    fs::set_permissions(&volume, fs::Permissions::from_mode(0o2777)).unwrap();
    let plan = plan(vec![bind(&volume, "/one")]).unwrap();
    assert_eq!(plan.storages[0].options, ["mode=2777", "fsgid=2000"]);
}

#[test]
fn an_empty_dir_has_the_size_that_its_pod_allows() {
    let root = tempfile::tempdir().unwrap();
    let volume = folder_of(&root, "volumes/kubernetes.io~empty-dir/work");
    let planned = |limits: &str| {
        let limits = VolumeLimits::parse(limits).unwrap();
        Plan::new(vec![bind(&volume, "/one")], "pod", HostPaths::Copy, &limits)
    };
    let options = &planned(r#"{"work":"1Mi"}"#).unwrap().storages[0].options;
    assert!(options.contains(&"size=1048576".to_owned()), "{options:?}");
    let options = &planned(r#"{"other":"1Mi"}"#).unwrap().storages[0].options;
    assert!(
        !options.iter().any(|option| option.starts_with("size=")),
        "{options:?}"
    );
    let refused = planned(r#"{"work":"much"}"#).unwrap_err().to_string();
    assert!(
        refused.contains("volume work: \"much\" is not a quantity"),
        "{refused}"
    );
}

#[test]
fn one_copy_serves_all_containers() {
    let root = tempfile::tempdir().unwrap();
    let token = folder_of(&root, "volumes/kubernetes.io~projected/token");
    let destination = "/var/run/secrets/kubernetes.io/serviceaccount";
    let one = plan(vec![bind(&token, destination)]).unwrap();
    let other = plan(vec![bind(&token, destination)]).unwrap();
    assert_eq!(one.copies, other.copies);
    assert_eq!(one.copies[0].renewal, Renewal::WithSource);
    assert_eq!(one.copies[0].target, one.mounts[0].source);
    assert!(
        one.mounts[0]
            .source
            .starts_with("/run/kata-containers/shared/containers/pod-")
    );
    assert!(one.mounts[0].source.ends_with("-serviceaccount"));
}

#[test]
fn the_termination_message_has_one_place_for_all_starts() {
    let root = tempfile::tempdir().unwrap();
    let folder = folder_of(&root, "containers/main");
    let (first, second) = (folder.join("1a2b"), folder.join("3c4d"));
    let one = plan(vec![bind(&first, "/dev/termination-log")]).unwrap();
    let other = plan(vec![bind(&second, "/dev/termination-log")]).unwrap();
    assert_eq!(one.mounts[0].source, other.mounts[0].source);
    assert_eq!(
        other.termination,
        Some(("/dev/termination-log".to_owned(), second))
    );
}

#[test]
fn the_guests_own_file_systems_stay_as_they_are() {
    let proc = Mount {
        destination: "/proc".into(),
        type_: "proc".into(),
        ..Default::default()
    };
    let mounts = vec![proc.clone(), bind(Path::new("/sys/fs"), "/x")];
    assert_eq!(plan(mounts.clone()).unwrap().mounts, mounts);
}

#[test]
fn files_of_the_node_can_be_read_or_are_refused() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("file");
    fs::write(&file, "of the node\n").unwrap();
    let copied = plan(vec![bind(&file, "/data")]).unwrap();
    assert_eq!(copied.copies.len(), 1);
    assert!(copied.mounts[0].options.contains(&"ro".to_owned()));
    assert!(!copied.mounts[0].options.contains(&"rw".to_owned()));
    let refused = Plan::new(
        vec![bind(&file, "/data")],
        "pod",
        HostPaths::Refuse,
        &VolumeLimits::default(),
    )
    .unwrap_err();
    assert!(refused.chain().contains("HOST_PATHS"), "{}", refused.chain());
}

#[test]
fn what_cannot_be_copied_is_refused_by_name() {
    let root = tempfile::tempdir().unwrap();
    let socket = root.path().join("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let volume = folder_of(&root, "volumes/kubernetes.io~csi/pvc-1/mount");
    for (source, words) in [
        (socket.as_path(), "sockets and pipes"),
        (Path::new("/dev/null"), "device of the node"),
        (Path::new("/dev"), "devices of the node"),
        (volume.as_path(), "persistent volume"),
        (Path::new("/no/such"), "its source /no/such cannot be read"),
    ] {
        let error = plan(vec![bind(source, "/data")]).unwrap_err().chain();
        assert!(
            error.starts_with("mount /data: ") && error.contains(words),
            "{error}"
        );
    }
}

#[test]
fn settings_that_cannot_be_read_allow_nothing() {
    let directory = tempfile::tempdir().unwrap();
    assert_eq!(settings(directory.path()).host_paths, HostPaths::Copy);
    fs::write(directory.path().join(SHIM_SETTINGS_FILE), "nonsense").unwrap();
    assert_eq!(settings(directory.path()).host_paths, HostPaths::Refuse);
}
