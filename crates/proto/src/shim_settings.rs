//! What the adaptor tells a shim by files in the pod directory: what the administrator decided about pods and only a shim
//! can do, that the VM will end, and that it has.

use serde::{Deserialize, Serialize};

/// The file's name in the pod directory. A stock adaptor writes none: then the defaults hold.
pub const SHIM_SETTINGS_FILE: &str = "shim.json";

/// The file that appears in the pod directory when the VM has ended by itself; its text is the reason.
pub const ENDED_FILE: &str = "ended";

/// The file that appears in the pod directory when the provider has announced that it takes the VM back; its text is what was
/// announced. The VM's end may show in a lost connection before it shows in [`ENDED_FILE`].
pub const ANNOUNCED_FILE: &str = "announced";

/// The settings' content. Fields that a version does not know are left alone, and missing ones have their defaults.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct ShimSettings {
    /// What becomes of hostPath volumes.
    pub host_paths: HostPaths,
    /// How much is logged.
    pub log_level: LogLevel,
}

/// How much is logged: each level also has what those before it have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogLevel {
    /// What somebody has to do something about.
    Error,
    /// What goes on in spite of something.
    Warn,
    /// What becomes of pods.
    #[default]
    Info,
    /// What was done for that.
    Debug,
    /// Everything.
    Trace,
}

/// What becomes of hostPath volumes, whose files are on the node and not in the VM.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HostPaths {
    /// Files and folders are copied into the VM once, and cannot be written to.
    #[default]
    Copy,
    /// The container is refused.
    Refuse,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_and_a_newer_one_are_understood() {
        let read = |text| serde_json::from_str::<ShimSettings>(text).unwrap();
        assert_eq!(read("{}").host_paths, HostPaths::Copy);
        assert_eq!(read("{}").log_level, LogLevel::Info);
        assert_eq!(read(r#"{"log-level": "debug"}"#).log_level, LogLevel::Debug);
        assert_eq!(
            read(r#"{"host-paths": "refuse", "new": 1}"#).host_paths,
            HostPaths::Refuse
        );
    }
}
