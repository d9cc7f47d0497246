//! What an entry of a docker configuration is for: `example.com`, `*.example.com:5000/team`.
//!
//! The rules are those of the kubelet, so that a Secret works for a peer pod where it works for any pod.

use super::Repository;

/// The key under which `docker login` keeps what is for Docker Hub.
const DOCKER_HUB: &str = "index.docker.io";

/// A host, which may have wildcards, a port where one is given, and the beginning of a path.
///
/// The order is that of specificity: of two locations that match an image the greater one is tried first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Location(String);

impl Location {
    /// Reads a key of a configuration: a scheme and the version of a registry's interface are left aside.
    pub(super) fn parse(key: &str) -> Self {
        let rest = key
            .strip_prefix("https://")
            .or_else(|| key.strip_prefix("http://"))
            .unwrap_or(key);
        let rest = rest.split(['?', '#']).next().unwrap_or_default();
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let path = match path.get(..4) {
            Some("/v1/" | "/v2/") => &path[3..],
            _ => path,
        };
        match path {
            "" | "/" => Self(host.to_owned()),
            path => Self(format!("{host}{path}")),
        }
    }

    /// Whether what is kept here is for the repository.
    pub(super) fn matches(&self, repository: &Repository) -> bool {
        let (host, path) = self.0.split_at(self.0.find('/').unwrap_or(self.0.len()));
        let ((pattern, port), (name, own_port)) = (split_port(host), split_port(repository.registry()));
        let (patterns, labels) = (pattern.split('.'), name.split('.'));
        port == own_port
            && patterns.clone().count() == labels.clone().count()
            // As the kubelet does it: a prefix of the text, not of its parts.
            && format!("/{}", repository.path()).starts_with(path)
            && patterns.zip(labels).all(|(pattern, label)| is_match(pattern.as_bytes(), label.as_bytes()))
    }

    /// Whether what is kept here may be for the repository: [`Location::matches`], or both are Docker Hub by any name.
    pub(super) fn serves(&self, repository: &Repository) -> bool {
        self.matches(repository) || (repository.is_on_docker_hub() && self.is_docker_hub())
    }

    /// Whether it is Docker Hub by the name that `docker login` gives it, which no image has.
    pub(super) fn is_docker_hub(&self) -> bool {
        self.0 == DOCKER_HUB
    }
}

/// Name and port of a host; the brackets around an IPv6 address are none of its name.
fn split_port(host: &str) -> (&str, Option<&str>) {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, Some(port)),
        Some(_) | None => (host, None),
    };
    let bare = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    (bare.unwrap_or(name), port)
}

/// Whether one label of a host name is what the pattern says: `*`, `[a-z]` and `[^a-z]` as shells know them (`?` begins
/// a query, for the kubelet as well). Takes time in proportion to the product of both lengths at most.
fn is_match(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut read) = (0, 0);
    // Where the last star is, and how much of the text it stands for.
    let mut star: Option<(usize, usize)> = None;
    while read < text.len() {
        match term(&pattern[at..]) {
            Term::Star => {
                star = Some((at, read));
                at += 1;
            }
            Term::One { length, accepts } if accepts(text[read]) => {
                at += length;
                read += 1;
            }
            Term::One { .. } | Term::End | Term::Malformed => match star {
                Some((place, swallowed)) => {
                    star = Some((place, swallowed + 1));
                    at = place + 1;
                    read = swallowed + 1;
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

enum Term<'a> {
    Star,
    /// What stands for one byte.
    One {
        length: usize,
        accepts: Box<dyn Fn(u8) -> bool + 'a>,
    },
    End,
    /// A bracket that is not closed matches nothing.
    Malformed,
}

fn term(pattern: &[u8]) -> Term<'_> {
    match pattern {
        [] => Term::End,
        [b'*', ..] => Term::Star,
        [b'[', rest @ ..] => match rest.iter().position(|byte| *byte == b']') {
            None | Some(0) => Term::Malformed,
            Some(end) => {
                let (set, negated) = match &rest[..end] {
                    [b'^', set @ ..] => (set, true),
                    set => (set, false),
                };
                Term::One {
                    length: end + 2,
                    accepts: Box::new(move |byte| is_in(set, byte) != negated),
                }
            }
        },
        [literal, ..] => Term::One {
            length: 1,
            accepts: Box::new(move |byte| byte == *literal),
        },
    }
}

fn is_in(mut set: &[u8], byte: u8) -> bool {
    loop {
        set = match set {
            [] => return false,
            [low, b'-', high, rest @ ..] => {
                if (*low..=*high).contains(&byte) {
                    return true;
                }
                rest
            }
            [one, rest @ ..] => {
                if *one == byte {
                    return true;
                }
                rest
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_for(key: &str, image: &str) -> bool {
        Location::parse(key).matches(&Repository::of_image(image).unwrap())
    }

    /// The kubelet's own table, with what its documentation says of wildcards.
    #[test]
    fn keys_match_as_the_kubelet_matches_them() {
        let table = [
            ("example.com", "example.com/app", true),
            ("https://example.com", "example.com/app", true),
            ("http://example.com/v1/", "example.com/app", true),
            ("https://example.com/v2/", "example.com/app", true),
            ("example.com/", "example.com/app", true),
            ("example.com", "other.com/app", false),
            ("example.com", "prefix.example.com/app", false),
            ("example.com", "example.com.evil.org/app", false),
            ("example.com:5000", "example.com:5000/app", true),
            ("example.com:5000", "example.com/app", false),
            ("example.com", "example.com:5000/app", false),
            ("example.com/team", "example.com/team/app", true),
            ("example.com/team/app", "example.com/team/app", true),
            ("example.com/team/app", "example.com/team", false),
            ("example.com/team", "example.com/other/app", false),
            ("example.com/v1/team", "example.com/team/app", true),
            ("*.example.com", "a.example.com/app", true),
            ("*.example.com", "example.com/app", false),
            ("*.example.com", "a.b.example.com/app", false),
            ("*.*.example.com", "a.b.example.com/app", true),
            ("*.example.com:8080", "a.example.com:8080/app", true),
            ("*.example.com:8080", "a.example.com:8081/app", false),
            ("registry-*.example.com", "registry-eu.example.com/app", true),
            ("registry-?.example.com", "registry-1.example.com/app", false),
            ("registry[0-9].example.com", "registry7.example.com/app", true),
            ("registry[^0-9].example.com", "registry7.example.com/app", false),
            ("registry[0-9.example.com", "registry0.example.com/app", false),
            ("*", "example.com/app", false),
            ("*.com", "example.com/app", true),
            ("10.250.0.1:5001", "10.250.0.1:5001/app:v1", true),
            ("docker.io", "busybox", true),
            ("docker.io/library", "busybox", true),
            ("[::1]:5000", "[::1]:5000/app", true),
            ("", "example.com/app", false),
        ];
        for (key, image, expected) in table {
            assert_eq!(is_for(key, image), expected, "{key:?} for {image:?}");
        }
    }

    #[test]
    fn the_more_specific_is_greater() {
        let mut keys =
            ["example.com", "example.com/team", "*.com", "example.com/team/app"].map(Location::parse);
        keys.sort();
        keys.reverse();
        let order = keys.each_ref().map(|key| key.0.as_str());
        assert_eq!(
            order,
            ["example.com/team/app", "example.com/team", "example.com", "*.com"]
        );
    }

    #[test]
    fn many_stars_take_no_time() {
        let pattern = "a*".repeat(2000) + "b";
        assert!(!is_match(pattern.as_bytes(), "a".repeat(2000).as_bytes()));
        assert!(is_match(b"**a**", b"bab"));
    }
}
