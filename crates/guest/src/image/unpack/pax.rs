//! PAX extended headers: `<length> <key>=<value>\n` records, whose values may hold any byte.

use std::io;

use rustix::fs::Timespec;

/// What the records for one entry say, where they say something.
#[derive(Debug, Default)]
pub(super) struct Extended {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    pub(super) modified: Option<Timespec>,
    pub(super) attributes: Vec<(String, Vec<u8>)>,
}

impl Extended {
    /// Adds the records of one header.
    pub(super) fn read(&mut self, mut records: &[u8]) -> io::Result<()> {
        while !records.is_empty() {
            let (key, value, rest) = record(records).ok_or_else(|| malformed("malformed PAX record"))?;
            self.apply(key, value)?;
            records = rest;
        }
        Ok(())
    }

    fn apply(&mut self, key: &str, value: &[u8]) -> io::Result<()> {
        match key {
            "path" => self.path = Some(value.to_vec()),
            "linkpath" => self.link = Some(value.to_vec()),
            "size" => self.size = Some(number(value)?),
            "uid" => self.uid = Some(number(value)?),
            "gid" => self.gid = Some(number(value)?),
            "mtime" => self.modified = Some(time(value)?),
            _ if key.starts_with("GNU.sparse.") => return Err(malformed("sparse files are not supported")),
            _ => {
                if let Some(name) = key.strip_prefix("SCHILY.xattr.")
                    && is_allowed(name)
                {
                    self.attributes.push((name.to_owned(), value.to_vec()));
                }
            }
        }
        Ok(())
    }
}

/// Only file capabilities and users' own attributes are taken over: `trusted.overlay.*` would steer the overlay
/// out of the layer, and labels of the build machine's security module mean nothing here.
fn is_allowed(name: &str) -> bool {
    name == "security.capability" || (name.starts_with("user.") && !name.starts_with("user.overlay."))
}

/// The first record's key and value, and what follows it.
fn record(records: &[u8]) -> Option<(&str, &[u8], &[u8])> {
    let space = records.iter().position(|byte| *byte == b' ')?;
    let length: usize = std::str::from_utf8(&records[..space]).ok()?.parse().ok()?;
    let (record, rest) = records.split_at_checked(length)?;
    let content = record.get(space + 1..)?.strip_suffix(b"\n")?;
    let equals = content.iter().position(|byte| *byte == b'=')?;
    Some((
        std::str::from_utf8(&content[..equals]).ok()?,
        &content[equals + 1..],
        rest,
    ))
}

fn number(value: &[u8]) -> io::Result<u64> {
    let parsed = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
    parsed.ok_or_else(|| malformed("malformed number in a PAX record"))
}

/// Seconds with an optional fraction, which counts forward even before 1970.
fn time(value: &[u8]) -> io::Result<Timespec> {
    let parse = || {
        let text = std::str::from_utf8(value).ok()?;
        let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
        let digits = fraction.bytes().chain(std::iter::repeat(b'0')).take(9);
        let mut tv_nsec = digits.map(|digit| digit.is_ascii_digit().then(|| i64::from(digit - b'0')));
        let tv_nsec = tv_nsec.try_fold(0, |sum, digit| Some(sum * 10 + digit?))?;
        Some(Timespec {
            tv_sec: seconds.parse().ok()?,
            tv_nsec,
        })
    };
    parse().ok_or_else(|| malformed("malformed time in a PAX record"))
}

pub(super) fn malformed(reason: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_may_hold_newlines() {
        let mut extended = Extended::default();
        extended
            .read(b"33 SCHILY.xattr.user.note=a\nb=\0c\n10 size=7\n")
            .unwrap();
        assert_eq!(
            extended.attributes,
            [("user.note".to_owned(), b"a\nb=\0c".to_vec())]
        );
        assert_eq!(extended.size, Some(7));
    }

    #[test]
    fn overlay_attributes_are_left_out() {
        let mut extended = Extended::default();
        extended
            .read(b"46 SCHILY.xattr.trusted.overlay.redirect=/etc\n")
            .unwrap();
        extended
            .read(b"42 SCHILY.xattr.user.overlay.redirect=/et\n")
            .unwrap();
        assert!(extended.attributes.is_empty());
    }

    #[test]
    fn malformed_records_are_errors() {
        for records in [
            &b"x"[..],
            b"5 a",
            b"99 path=x\n",
            b"0 path=x\n",
            b"7 a=b\n",
            b"10 size=x\n",
        ] {
            assert!(Extended::default().read(records).is_err(), "{records:?}");
        }
    }
}
