//! Seccomp for the processes that join a container: libcontainer gives its profile to the first process alone.
//!
//! A filter can be installed by who may never gain privileges, or by CAP_SYS_ADMIN. So a process that may gain some (a
//! set-user-ID program, say) begins with that capability, installs the filter, and then drops to its own capabilities:
//! the order in which the first process does it.

use libcontainer::{
    capabilities::drop_privileges,
    seccomp::initialize_seccomp,
    syscall::syscall::create_syscall,
    workload::{Executor, ExecutorError, ExecutorValidationError, default::DefaultExecutor},
};
use oci_spec::runtime::{Capabilities, Capability, LinuxCapabilities, LinuxSeccomp, Process, Spec};

/// What it takes to install a filter, and to drop that again.
const INSTALLING: [Capability; 2] = [Capability::SysAdmin, Capability::Setpcap];

/// Installs a profile and then runs the program.
#[derive(Clone)]
pub(super) struct Confined {
    profile: LinuxSeccomp,
    privileges: Privileges,
}

/// What is left to do about capabilities once the filter is installed.
#[derive(Clone)]
enum Privileges {
    /// They are the process's own already.
    Kept,
    /// They are to become these.
    DroppedTo(Box<LinuxCapabilities>),
}

impl Confined {
    /// Confines a process as the container's spec says, where it does; `process` is changed to begin with what that takes.
    pub(super) fn of(spec: &Spec, process: &mut Process) -> Option<Self> {
        let profile = spec.linux().as_ref()?.seccomp().clone()?;
        let gains_none = process.no_new_privileges() == Some(true);
        let privileges = match process.capabilities() {
            Some(own) if !gains_none => {
                let own = own.clone();
                process.set_capabilities(Some(with_installing(&own)));
                Privileges::DroppedTo(Box::new(own))
            }
            Some(_) | None => Privileges::Kept,
        };
        Some(Self { profile, privileges })
    }
}

fn with_installing(own: &LinuxCapabilities) -> LinuxCapabilities {
    let more = |set: &Option<Capabilities>| {
        let mut set = set.clone().unwrap_or_default();
        set.extend(INSTALLING);
        Some(set)
    };
    let mut all = own.clone();
    all.set_bounding(more(own.bounding()));
    all.set_effective(more(own.effective()));
    all.set_permitted(more(own.permitted()));
    all
}

impl Executor for Confined {
    fn exec(&self, spec: &Spec) -> Result<(), ExecutorError> {
        let failed =
            |action: &str, error: &dyn std::error::Error| ExecutorError::Other(format!("{action}: {error}"));
        let supervised = initialize_seccomp(&self.profile)
            .map_err(|error| failed("install the seccomp profile", &error))?;
        if supervised.is_some() {
            return Err(ExecutorError::Other(
                "a seccomp profile that asks a supervisor cannot be given to a process that joins".to_owned(),
            ));
        }
        if let Privileges::DroppedTo(own) = &self.privileges {
            drop_privileges(own, create_syscall().as_ref())
                .map_err(|error| failed("drop capabilities", &error))?;
        }
        DefaultExecutor {}.exec(spec)
    }

    fn validate(&self, spec: &Spec) -> Result<(), ExecutorValidationError> {
        DefaultExecutor {}.validate(spec)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(linux: serde_json::Value) -> Spec {
        serde_json::from_value(serde_json::json!({"ociVersion": "1.1.0", "linux": linux})).unwrap()
    }

    fn process(no_new_privileges: bool) -> Process {
        let sets = serde_json::json!(["CAP_CHOWN"]);
        serde_json::from_value(serde_json::json!({
            "cwd": "/", "user": {"uid": 0, "gid": 0}, "noNewPrivileges": no_new_privileges,
            "capabilities": {"bounding": sets, "effective": sets, "permitted": sets},
        }))
        .unwrap()
    }

    #[test]
    fn without_a_profile_nothing_changes() {
        let mut joining = process(false);
        assert!(Confined::of(&spec(serde_json::json!({})), &mut joining).is_none());
        assert_eq!(joining, process(false));
    }

    #[test]
    fn only_who_may_gain_privileges_begins_with_more() {
        let spec = spec(serde_json::json!({"seccomp": {"defaultAction": "SCMP_ACT_ERRNO"}}));
        let mut joining = process(true);
        let confined = Confined::of(&spec, &mut joining).unwrap();
        assert!(matches!(confined.privileges, Privileges::Kept));
        assert_eq!(joining, process(true));

        let mut joining = process(false);
        let confined = Confined::of(&spec, &mut joining).unwrap();
        let Privileges::DroppedTo(own) = confined.privileges else {
            panic!("nothing is dropped")
        };
        assert_eq!(Some(*own), process(false).capabilities().clone());
        let effective = joining
            .capabilities()
            .clone()
            .unwrap()
            .effective()
            .clone()
            .unwrap();
        assert!(effective.contains(&Capability::SysAdmin) && effective.contains(&Capability::Chown));
    }
}
