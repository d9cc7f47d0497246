//! The command line that containerd and CRI-O use, in the flag syntax of Go: `-id X`, `--id X` or `-id=X`.

use std::path::PathBuf;

use peerpods_proto::id::is_id;

/// What `--help` prints.
pub(crate) const HELP: &str = "\
usage: containerd-shim-kata-v2 [flags] [start|delete]

Started by containerd or CRI-O, once per pod, in the pod's bundle directory.

  -namespace NAME        namespace of the container runtime
  -id ID                 container to start or to clean up
  -address PATH          gRPC address of the container runtime
  -publish-binary PATH   accepted, not used: events go to TTRPC_ADDRESS
  -bundle PATH           bundle directory, if it is not the working directory
  -socket PATH           accepted, not used
  -debug                 log more
  -info                  print what this runtime is, as containerd's RuntimeInfo
  -v, -version           print the version";

/// What this run is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Help,
    Version,
    Info,
    Start,
    Delete,
    Serve,
}

/// The parsed command line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct CommandLine {
    pub(crate) action: Action,
    pub(crate) namespace: String,
    pub(crate) id: String,
    pub(crate) address: String,
    pub(crate) bundle: Option<PathBuf>,
    pub(crate) debug: bool,
}

impl CommandLine {
    pub(crate) fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Self, String> {
        let mut command = Self {
            action: Action::Serve,
            namespace: String::new(),
            id: String::new(),
            address: String::new(),
            bundle: None,
            debug: false,
        };
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            let Some(flag) = argument.strip_prefix('-') else {
                command.action = match argument.as_str() {
                    "start" => Action::Start,
                    "delete" => Action::Delete,
                    other => return Err(format!("unknown action {other:?}")),
                };
                break;
            };
            let flag = flag.strip_prefix('-').unwrap_or(flag);
            let (name, mut inline) = match flag.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (flag, None),
            };
            let mut value = || {
                inline
                    .take()
                    .or_else(|| arguments.next())
                    .ok_or_else(|| format!("-{name} needs a value"))
            };
            match name {
                "namespace" => command.namespace = value()?,
                "id" => command.id = value()?,
                "address" => command.address = value()?,
                "bundle" => command.bundle = Some(value()?.into()),
                "publish-binary" | "socket" => drop(value()?),
                "debug" => command.debug = true,
                "info" => {
                    return Ok(Self {
                        action: Action::Info,
                        ..command
                    });
                }
                "v" | "version" => {
                    return Ok(Self {
                        action: Action::Version,
                        ..command
                    });
                }
                "h" | "help" => {
                    return Ok(Self {
                        action: Action::Help,
                        ..command
                    });
                }
                other => return Err(format!("unknown flag -{other}")),
            }
        }
        command.validated()
    }

    fn validated(self) -> Result<Self, String> {
        if self.namespace.is_empty() {
            return Err("-namespace is missing".to_owned());
        }
        // The id becomes part of paths.
        if !is_id(&self.id) {
            return Err(format!("-id {:?} is not an identifier", self.id));
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<CommandLine, String> {
        CommandLine::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn containerd_starts_a_shim() {
        let command = parse("-namespace k8s.io -address /run/c.sock -publish-binary /bin/c -id abc start");
        let command = command.unwrap();
        assert_eq!(command.action, Action::Start);
        assert_eq!(
            (command.namespace.as_str(), command.id.as_str()),
            ("k8s.io", "abc")
        );
    }

    #[test]
    fn all_flag_forms_mean_the_same() {
        assert_eq!(
            parse("-namespace n -id a").unwrap(),
            parse("--namespace=n --id=a").unwrap()
        );
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for line in [
            "",
            "-namespace n",
            "-namespace n -id ../x",
            "-namespace n -id a stop",
            "-x -id a",
        ] {
            assert!(parse(line).is_err(), "{line:?} was accepted");
        }
    }
}
