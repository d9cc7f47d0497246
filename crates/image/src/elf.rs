//! The little of ELF that a build needs: one named section of a 64-bit little-endian object.

/// Offsets within the ELF header and a section header, as the ELF-64 object file format gives them.
const MACHINE: usize = 0x12;
const SECTION_TABLE_OFFSET: usize = 0x28;
const SECTION_ENTRY_SIZE: usize = 0x3a;
const SECTION_COUNT: usize = 0x3c;
const NAME_TABLE_INDEX: usize = 0x3e;
const SECTION_FILE_OFFSET: usize = 0x18;
const SECTION_SIZE: usize = 0x20;

/// ELF magic, 64-bit class, little-endian data.
const IDENTIFICATION: &[u8] = b"\x7fELF\x02\x01";

/// The number of the processors that an ELF file is for.
pub(crate) fn machine(file: &[u8]) -> Option<u16> {
    file.starts_with(IDENTIFICATION).then(|| u16_at(file, MACHINE))?
}

/// The bytes of the section called `name`; `None` when `object` has none or is malformed.
pub(crate) fn section<'a>(object: &'a [u8], name: &str) -> Option<&'a [u8]> {
    if !object.starts_with(IDENTIFICATION) {
        return None;
    }
    let table = u64_at(object, SECTION_TABLE_OFFSET)?;
    let entry_size = usize::from(u16_at(object, SECTION_ENTRY_SIZE)?);
    let count = usize::from(u16_at(object, SECTION_COUNT)?);
    let header = |index: usize| object.get(table.checked_add(index.checked_mul(entry_size)?)?..);

    let names = contents(object, header(usize::from(u16_at(object, NAME_TABLE_INDEX)?))?)?;
    (0..count).find_map(|index| {
        let header = header(index)?;
        let name_offset = usize::try_from(u32_at(header, 0)?).ok()?;
        let found = names.get(name_offset..)?.split(|byte| *byte == 0).next()?;
        (found == name.as_bytes())
            .then(|| contents(object, header))
            .flatten()
    })
}

fn contents<'a>(object: &'a [u8], header: &[u8]) -> Option<&'a [u8]> {
    let start = u64_at(header, SECTION_FILE_OFFSET)?;
    object.get(start..start.checked_add(u64_at(header, SECTION_SIZE)?)?)
}

fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(offset..)?.first_chunk()?))
}

fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(offset..)?.first_chunk()?))
}

fn u64_at(bytes: &[u8], offset: usize) -> Option<usize> {
    u64::from_le_bytes(*bytes.get(offset..)?.first_chunk()?)
        .try_into()
        .ok()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::section;

    /// A minimal object file: an empty section, the name table, and `.modinfo` with `modinfo`.
    pub(crate) fn object_with_modinfo(modinfo: &[u8]) -> Vec<u8> {
        let names = b"\0.shstrtab\0.modinfo\0";
        let mut object = vec![0; 64];
        object[..6].copy_from_slice(b"\x7fELF\x02\x01");
        let names_at = object.len();
        object.extend_from_slice(names);
        let modinfo_at = object.len();
        object.extend_from_slice(modinfo);
        let table = object.len();
        object.extend(section_header(0, 0, 0));
        object.extend(section_header(1, names_at, names.len()));
        object.extend(section_header(11, modinfo_at, modinfo.len()));
        object[0x28..0x30].copy_from_slice(&(table as u64).to_le_bytes());
        object[0x3a..0x3c].copy_from_slice(&64u16.to_le_bytes());
        object[0x3c..0x3e].copy_from_slice(&3u16.to_le_bytes());
        object[0x3e..0x40].copy_from_slice(&1u16.to_le_bytes());
        object
    }

    fn section_header(name: u32, offset: usize, size: usize) -> Vec<u8> {
        let mut header = vec![0; 64];
        header[..4].copy_from_slice(&name.to_le_bytes());
        header[0x18..0x20].copy_from_slice(&(offset as u64).to_le_bytes());
        header[0x20..0x28].copy_from_slice(&(size as u64).to_le_bytes());
        header
    }

    #[test]
    fn a_section_is_found_by_name() {
        let object = object_with_modinfo(b"name=loop\0depends=\0");
        assert_eq!(section(&object, ".modinfo"), Some(&b"name=loop\0depends=\0"[..]));
        assert_eq!(section(&object, ".text"), None);
    }

    #[test]
    fn a_damaged_object_gives_nothing_and_does_not_panic() {
        let object = object_with_modinfo(b"name=loop\0");
        for length in 0..object.len() {
            section(&object[..length], ".modinfo");
        }
        for position in 0..object.len() {
            let mut damaged = object.clone();
            damaged[position] = 0xff;
            section(&damaged, ".modinfo");
        }
        assert_eq!(section(b"#!/bin/sh\n", ".modinfo"), None);
    }
}
