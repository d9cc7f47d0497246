//! The archive's headers, read one after another with bounds that no tar library offers: a long name or an
//! extended header of gigabytes must not be read into memory.

use std::io::{self, Read};

use rustix::fs::{FileType, Timespec};
use tar::{EntryType, Header};

use super::{
    super::{ImageError, limits},
    pax::{Extended, malformed},
    stream_error,
};

/// Tar's unit: headers have this size, bodies are padded to it.
const BLOCK_BYTES: usize = 512;

/// An entry as all its headers together describe it.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) path: Vec<u8>,
    pub(super) kind: Kind,
    pub(super) mode: u32,
    pub(super) owner: u32,
    pub(super) group: u32,
    pub(super) modified: Timespec,
    pub(super) attributes: Vec<(String, Vec<u8>)>,
}

/// What an entry makes.
#[derive(Debug)]
pub(super) enum Kind {
    File,
    Directory,
    Symlink(Vec<u8>),
    HardLink(Vec<u8>),
    Device {
        file_type: FileType,
        major: u32,
        minor: u32,
    },
    Fifo,
}

/// A reader of entries and, between them, of the current entry's body.
pub(super) struct Archive<'a, R> {
    reader: &'a mut R,
    layer: &'a str,
    /// Bytes of the current body that were not read yet.
    body: u64,
    /// Bytes behind the body up to the next header.
    padding: u64,
}

impl<'a, R: Read> Archive<'a, R> {
    pub(super) fn new(reader: &'a mut R, layer: &'a str) -> Self {
        Archive {
            reader,
            layer,
            body: 0,
            padding: 0,
        }
    }

    /// The next entry, after skipping what is left of the current one; nothing at the archive's end.
    pub(super) fn next_entry(&mut self) -> Result<Option<Entry>, ImageError> {
        self.read_entry().map_err(|error| self.failed(error))
    }

    /// The error for a failed read, with the layer's name.
    pub(super) fn failed(&self, error: io::Error) -> ImageError {
        stream_error(self.layer, error)
    }

    fn read_entry(&mut self) -> io::Result<Option<Entry>> {
        let mut extended = Extended::default();
        loop {
            self.skip_body()?;
            let Some(header) = self.read_header()? else {
                return Ok(None);
            };
            match header.entry_type() {
                EntryType::XHeader => {
                    let records = self.extended_body(header.entry_size()?)?;
                    extended.read(&records)?;
                }
                EntryType::GNULongName => {
                    extended.path = Some(self.long_name(header.entry_size()?)?);
                }
                EntryType::GNULongLink => {
                    extended.link = Some(self.long_name(header.entry_size()?)?);
                }
                // Comments such as a commit id; nothing in it changes what is unpacked.
                EntryType::XGlobalHeader => self.expect_body(header.entry_size()?)?,
                _ => return self.entry(&header, extended).map(Some),
            }
        }
    }

    fn entry(&mut self, header: &Header, extended: Extended) -> io::Result<Entry> {
        let link = || match &extended.link {
            Some(link) => Ok(link.clone()),
            None => header
                .link_name_bytes()
                .map(Vec::from)
                .ok_or_else(|| malformed("a link without a target")),
        };
        let device = |file_type| -> io::Result<Kind> {
            let major = header.device_major()?.unwrap_or(0);
            let minor = header.device_minor()?.unwrap_or(0);
            Ok(Kind::Device {
                file_type,
                major,
                minor,
            })
        };
        let path = extended
            .path
            .clone()
            .unwrap_or_else(|| header.path_bytes().into_owned());
        let kind = match header.entry_type() {
            // Before directories had a type, a slash told them.
            EntryType::Regular if path.ends_with(b"/") => Kind::Directory,
            EntryType::Regular | EntryType::Continuous => Kind::File,
            EntryType::Directory => Kind::Directory,
            EntryType::Symlink => Kind::Symlink(link()?),
            EntryType::Link => Kind::HardLink(link()?),
            EntryType::Char => device(FileType::CharacterDevice)?,
            EntryType::Block => device(FileType::BlockDevice)?,
            EntryType::Fifo => Kind::Fifo,
            _ => return Err(malformed("an entry of an unknown type")),
        };
        self.expect_body(match (&kind, extended.size) {
            (Kind::File, Some(size)) => size,
            (Kind::File, None) => header.entry_size()?,
            // Some writers give a hard link its target's size, and none has a body.
            _ => 0,
        })?;
        let number = |extended: Option<u64>, header: io::Result<u64>| -> io::Result<u32> {
            let number = extended.map_or(header, Ok)?;
            // The largest number means "unchanged" to the kernel.
            u32::try_from(number)
                .ok()
                .filter(|number| *number != u32::MAX)
                .ok_or_else(|| malformed("an owner out of range"))
        };
        let seconds = || {
            header
                .mtime()
                .ok()
                .and_then(|seconds| i64::try_from(seconds).ok())
                .unwrap_or(0)
        };
        Ok(Entry {
            path,
            kind,
            mode: header.mode()? & 0o7777,
            owner: number(extended.uid, header.uid())?,
            group: number(extended.gid, header.gid())?,
            modified: extended.modified.unwrap_or_else(|| Timespec {
                tv_sec: seconds(),
                tv_nsec: 0,
            }),
            attributes: extended.attributes,
        })
    }

    fn read_header(&mut self) -> io::Result<Option<Header>> {
        let mut block = [0; BLOCK_BYTES];
        let mut filled = 0;
        while filled < BLOCK_BYTES {
            match self.reader.read(&mut block[filled..])? {
                // Some writers leave the end mark out.
                0 if filled == 0 => return Ok(None),
                0 => return Err(malformed("the archive ends inside a header")),
                length => filled += length,
            }
        }
        if block.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let header = Header::from_byte_slice(&block).clone();
        // The sum counts its own field as spaces.
        let sum: u32 = block[..148]
            .iter()
            .chain(&block[156..])
            .map(|byte| u32::from(*byte))
            .sum();
        if header.cksum()? != sum + 8 * u32::from(b' ') {
            return Err(malformed("a header's checksum is wrong"));
        }
        Ok(Some(header))
    }

    fn expect_body(&mut self, size: u64) -> io::Result<()> {
        // Sizes near the end of the number range are never real, and must not wrap in sums.
        if size > i64::MAX as u64 {
            return Err(malformed("a size out of range"));
        }
        self.body = size;
        self.padding = size.next_multiple_of(BLOCK_BYTES as u64) - size;
        Ok(())
    }

    fn extended_body(&mut self, size: u64) -> io::Result<Vec<u8>> {
        if size > limits::EXTENDED_HEADER_BYTES {
            return Err(io::Error::other(ImageError::LimitExceeded {
                subject: format!("an extended header in layer {}", self.layer),
                limit: limits::EXTENDED_HEADER_BYTES,
                unit: "bytes",
            }));
        }
        self.expect_body(size)?;
        let mut body = Vec::new();
        self.read_to_end(&mut body)?;
        Ok(body)
    }

    fn long_name(&mut self, size: u64) -> io::Result<Vec<u8>> {
        let mut name = self.extended_body(size)?;
        if let Some(end) = name.iter().position(|byte| *byte == 0) {
            name.truncate(end);
        }
        Ok(name)
    }

    fn skip_body(&mut self) -> io::Result<()> {
        let skipped = self.body + self.padding;
        if io::copy(&mut self.reader.by_ref().take(skipped), &mut io::sink())? < skipped {
            return Err(malformed("the archive ends inside an entry"));
        }
        (self.body, self.padding) = (0, 0);
        Ok(())
    }
}

/// The current entry's body.
impl<R: Read> Read for Archive<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = buffer.len().min(usize::try_from(self.body).unwrap_or(usize::MAX));
        if wanted == 0 {
            return Ok(0);
        }
        match self.reader.read(&mut buffer[..wanted])? {
            0 => Err(malformed("the archive ends inside a file")),
            length => {
                self.body -= length as u64;
                Ok(length)
            }
        }
    }
}
