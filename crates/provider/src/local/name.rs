//! The names of instances: of their directories, and their ids.

use std::{
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

use super::LocalError;
use crate::{Instance, InstanceId, LaunchToken};

/// Hex digits of the token's hash in a name: with 80 bits no two tokens ever meet.
const NAME_DIGITS: usize = 20;

/// Hex digits of the hash in a device's name, which can have 15 characters; a clash makes the launch fail.
const DEVICE_DIGITS: usize = 12;

/// How one provider names its instances: by a prefix, `-`, and a hash of the launch token.
#[derive(Clone, Copy, Debug)]
pub struct Names {
    /// What every name begins with.
    pub prefix: &'static str,
}

impl Names {
    /// The name for a token, always the same.
    pub fn of_token(self, token: &LaunchToken) -> InstanceName {
        let digest = hex::encode(Sha256::digest(token.as_str()));
        self.named(&digest[..NAME_DIGITS])
    }

    /// The name that an id is, if it can be one of these.
    pub fn of_id(self, id: &InstanceId) -> Option<InstanceName> {
        let digits = id.as_str().strip_prefix(self.prefix)?.strip_prefix('-')?;
        let is_ours = digits.len() == NAME_DIGITS && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_ours.then(|| self.named(digits))
    }

    /// All that are in a state directory, sorted.
    pub fn all(self, state_dir: &Path) -> Result<Vec<InstanceName>, LocalError> {
        let failed = || LocalError::file("list", state_dir);
        let mut found = Vec::new();
        for entry in fs::read_dir(state_dir).map_err(failed())? {
            let name = entry.map_err(failed())?.file_name();
            found.extend(self.of_id(&InstanceId::new(name.to_string_lossy())));
        }
        found.sort_by(|left, right| left.digits.cmp(&right.digits));
        Ok(found)
    }

    fn named(self, digits: &str) -> InstanceName {
        InstanceName {
            prefix: self.prefix,
            digits: digits.to_owned(),
        }
    }
}

/// The name of one instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceName {
    prefix: &'static str,
    digits: String,
}

impl InstanceName {
    /// The instance's directory.
    pub fn path(&self, state_dir: &Path) -> PathBuf {
        state_dir.join(self.to_string())
    }

    /// The name of a network device of the instance; `prefix` has at most three characters.
    pub fn device(&self, prefix: &str) -> String {
        format!("{prefix}{}", &self.digits[..DEVICE_DIGITS])
    }

    /// The instance, as the contract tells it.
    pub fn instance(&self, address: Ipv4Addr) -> Instance {
        Instance {
            id: InstanceId::new(self.to_string()),
            addresses: vec![address.into()],
            machine_type: None,
        }
    }
}

impl std::fmt::Display for InstanceName {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}-{}", self.prefix, self.digits)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::Names;
    use crate::{InstanceId, LaunchToken};

    const NAMES: Names = Names { prefix: "local" };

    fn token(text: &str) -> LaunchToken {
        LaunchToken::try_from(text.to_owned()).unwrap()
    }

    #[test]
    fn a_token_always_gives_the_same_name_and_the_id_finds_it() {
        let name = NAMES.of_token(&token("one"));
        assert_eq!(name, NAMES.of_token(&token("one")));
        assert_ne!(name, NAMES.of_token(&token("other")));
        let id = name.instance([10, 0, 0, 1].into()).id;
        assert_eq!(NAMES.of_id(&id).unwrap(), name);
        assert_eq!(
            name.path(Path::new("/state")),
            Path::new("/state").join(id.as_str())
        );
        assert!(name.device("abc").len() <= 15);
    }

    #[test]
    fn an_id_that_is_not_ours_is_no_name() {
        for id in [
            "i-0abc",
            "local-",
            "local0123456789abcdef0123",
            "local-../../../../etc/passw",
            "local-0123456789012345678g",
        ] {
            assert!(NAMES.of_id(&InstanceId::new(id)).is_none(), "{id}");
        }
    }
}
