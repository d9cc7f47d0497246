//! Which of many credentials are for an image.

use super::{Credential, DockerConfig, Repository, Secret, UnusableEntry, location::Location};

/// Credentials of several sources, found as the kubelet finds them.
#[derive(Debug, Default)]
pub struct Keyring {
    entries: Vec<(Location, String, Secret)>,
    unusable: Vec<(Location, String, UnusableEntry)>,
}

impl Keyring {
    /// Adds all that a configuration holds; `source` is how a person knows it.
    pub fn add(&mut self, source: &str, config: DockerConfig) {
        let named = |location| (location, source.to_owned());
        self.entries
            .extend(config.entries.into_iter().map(|(location, secret)| {
                let (location, source) = named(location);
                (location, source, secret)
            }));
        self.unusable
            .extend(config.unusable.into_iter().map(|(location, problem)| {
                let (location, source) = named(location);
                (location, source, problem)
            }));
    }

    /// What is for the repository, the most specific first; of equals, in the order in which they were added. What was
    /// kept for Docker Hub under the name that `docker login` gives it comes in where nothing else matches.
    pub fn find(&self, repository: &Repository) -> Vec<Credential> {
        let mut found: Vec<_> = self
            .entries
            .iter()
            .filter(|(location, ..)| location.matches(repository))
            .collect();
        if found.is_empty() && repository.is_on_docker_hub() {
            found.extend(
                self.entries
                    .iter()
                    .filter(|(location, ..)| location.is_docker_hub()),
            );
        }
        // Stable: equals stay in their order.
        found.sort_by(|(one, ..), (other, ..)| other.cmp(one));
        found
            .into_iter()
            .map(|(_, source, secret)| Credential {
                source: source.clone(),
                secret: secret.clone(),
            })
            .collect()
    }

    /// What would be for the repository and cannot be used, as sentences.
    pub fn find_unusable(&self, repository: &Repository) -> Vec<String> {
        let unusable = self
            .unusable
            .iter()
            .filter(|(location, ..)| location.serves(repository));
        unusable
            .map(|(_, source, problem)| {
                format!("{source}: its entry for {} {problem}", repository.registry())
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keyring(configs: &[(&str, &[&str])]) -> Keyring {
        let mut keyring = Keyring::default();
        for (source, keys) in configs {
            let entries: Vec<_> = keys
                .iter()
                .map(|key| format!(r#""{key}": {{"username": "{key}", "password": "x"}}"#))
                .collect();
            let json = format!(r#"{{"auths": {{{}}}}}"#, entries.join(","));
            keyring.add(source, DockerConfig::parse(json.as_bytes()).unwrap());
        }
        keyring
    }

    fn found(keyring: &Keyring, image: &str) -> Vec<String> {
        let found = keyring.find(&Repository::of_image(image).unwrap());
        found
            .into_iter()
            .map(|credential| match credential.secret {
                Secret::Basic { username, .. } => format!("{} {username}", credential.source),
                Secret::Token(_) => panic!("there are no tokens here"),
            })
            .collect()
    }

    #[test]
    fn the_most_specific_comes_first_whatever_secret_it_is_in() {
        let keyring = keyring(&[
            ("a", &["example.com", "*.com", "other.org"]),
            ("b", &["example.com/team", "example.com"]),
        ]);
        assert_eq!(
            found(&keyring, "example.com/team/app:v1"),
            ["b example.com/team", "a example.com", "b example.com", "a *.com"]
        );
        assert_eq!(found(&keyring, "example.net/app"), [""; 0]);
    }

    #[test]
    fn docker_hub_has_several_names() {
        let login = "https://index.docker.io/v1/";
        for image in [
            "busybox",
            "team/app",
            "docker.io/team/app",
            "index.docker.io/team/app",
        ] {
            assert_eq!(
                found(&keyring(&[("a", &[login])]), image),
                [format!("a {login}")],
                "{image}"
            );
            let both = keyring(&[("a", &[login]), ("b", &["docker.io"])]);
            assert_eq!(found(&both, image), ["b docker.io"], "{image}");
        }
        assert_eq!(found(&keyring(&[("a", &[login])]), "example.com/app"), [""; 0]);
    }

    #[test]
    fn what_cannot_be_used_is_told_to_whom_it_concerns() {
        let mut keyring = Keyring::default();
        let json = br#"{"auths": {"example.com": {}, "other.org": {"auth": "?"}}}"#;
        keyring.add("Secret a", DockerConfig::parse(json).unwrap());
        let told = keyring.find_unusable(&Repository::of_image("example.com/app").unwrap());
        assert!(
            matches!(&told[..], [one] if one.starts_with("Secret a: its entry for example.com has no user")),
            "{told:?}"
        );
    }
}
