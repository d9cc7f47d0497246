//! What lies behind a sub-path: the kubelet hands over a bind mount of a part of a volume, and only the kernel's table
//! of mounts still knows of which.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// A part of an emptyDir volume.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct EmptyDirPart {
    /// The volume on the node.
    pub(super) volume: PathBuf,
    /// The part, relative to the volume.
    pub(super) inner: PathBuf,
}

/// One line of `/proc/self/mountinfo`, as far as it is of use here (proc(5)).
#[derive(Debug, PartialEq, Eq)]
struct MountLine {
    device: String,
    root: String,
    point: String,
}

const EMPTY_DIRS: &str = "volumes/kubernetes.io~empty-dir";

/// The part of an emptyDir that is mounted at `source`, if it is of one: `<pod>/volume-subpaths/<volume>/…`.
pub(super) fn of_empty_dir(source: &Path) -> io::Result<Option<EmptyDirPart>> {
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    Ok(find(source, &mounts))
}

fn find(source: &Path, mounts: &str) -> Option<EmptyDirPart> {
    let folder = source.ancestors().nth(2)?;
    let pod = source.ancestors().nth(4)?;
    let volume = pod.join(EMPTY_DIRS).join(folder.file_name()?);
    let lines: Vec<_> = mounts.lines().filter_map(MountLine::parse).collect();
    let at = |point: &Path| lines.iter().rev().find(|line| Path::new(&line.point) == point);
    let mounted = at(source)?;
    let inner = match at(&volume) {
        // A volume in memory is a file system of its own: what is mounted is told from its root.
        Some(own) if own.device == mounted.device => Path::new(&mounted.root).strip_prefix(&own.root).ok()?,
        // One on disk is a folder of the node's file system, whose path ends like the volume's.
        Some(_) | None => {
            let name = Path::new(EMPTY_DIRS).join(folder.file_name()?);
            let below = pod.file_name().map(|uid| Path::new(uid).join(name))?;
            let below = format!("{}/", below.display());
            let (_, inner) = mounted.root.split_once(&below)?;
            Path::new(inner)
        }
    };
    Some(EmptyDirPart {
        volume,
        inner: inner.to_owned(),
    })
}

impl MountLine {
    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.split(' ').skip(2);
        let (device, root, point) = (fields.next()?, fields.next()?, fields.next()?);
        Some(Self {
            device: device.to_owned(),
            root: unescape(root)?,
            point: unescape(point)?,
        })
    }
}

/// Blanks, line breaks and backslashes are written as octal numbers.
fn unescape(text: &str) -> Option<String> {
    let mut plain = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'\\' {
            let digits: Vec<u8> = bytes.by_ref().take(3).collect();
            plain.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 8).ok()?);
        } else {
            plain.push(byte);
        }
    }
    String::from_utf8(plain).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const POD: &str = "/var/lib/kubelet/pods/0ab5f1c2-77aa-4c1e-9d55-0123456789ab";

    #[test]
    fn a_part_of_a_volume_on_disk_is_found_by_the_mounts_root() {
        let source = format!("{POD}/volume-subpaths/work/main/0");
        let root =
            "/state/kubelet/pods/0ab5f1c2-77aa-4c1e-9d55-0123456789ab/volumes/kubernetes.io~empty-dir/work";
        let mounts = format!(
            "36 25 254:0 /state {POD} rw - ext4 x rw\n99 36 254:0 {root}/some\\040part/x {source} rw - ext4 x rw\n"
        );
        let part = find(Path::new(&source), &mounts).unwrap();
        assert_eq!(part.inner, Path::new("some part/x"));
        assert_eq!(
            part.volume,
            Path::new(&format!("{POD}/volumes/kubernetes.io~empty-dir/work"))
        );
    }

    #[test]
    fn a_part_of_a_volume_in_memory_is_told_from_its_own_root() {
        let source = format!("{POD}/volume-subpaths/fast/main/1");
        let volume = format!("{POD}/volumes/kubernetes.io~empty-dir/fast");
        let mounts = format!(
            "40 25 0:50 / {volume} rw - tmpfs tmpfs rw\n41 25 0:50 /deep {source} rw - tmpfs tmpfs rw\n"
        );
        assert_eq!(
            find(Path::new(&source), &mounts).unwrap().inner,
            Path::new("deep")
        );
    }

    #[test]
    fn a_part_of_another_volume_is_none_of_an_empty_dir() {
        let source = format!("{POD}/volume-subpaths/config/main/0");
        let root =
            "/pods/0ab5f1c2-77aa-4c1e-9d55-0123456789ab/volumes/kubernetes.io~configmap/config/..x/key";
        let mounts = format!("99 36 254:0 {root} {source} rw - ext4 x rw\n");
        assert_eq!(find(Path::new(&source), &mounts), None);
        assert_eq!(find(Path::new(&source), "nonsense\n"), None);
    }
}
