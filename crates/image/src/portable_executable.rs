//! The little of PE32+, the format of EFI programs, that a build needs: sections added to a finished program.
//!
//! The headers of a program end with a table of sections, and behind it is room up to where the first section's bytes begin.
//! A new section is an entry in that room, and bytes behind all others, in the file and in memory.

use crate::ImageError;

/// Where the file says at what offset its headers begin.
const HEADERS_OFFSET: usize = 0x3c;
const SIGNATURE: &[u8] = b"PE\0\0";
/// The optional header's magic of a 64-bit program.
const PE32_PLUS: u16 = 0x20b;

/// Offsets from the headers' beginning: of the file header's fields, and, from 24 on, of the optional header's.
const MACHINE: usize = 4;
const SECTION_COUNT: usize = 6;
const SYMBOL_TABLE: usize = 12;
const SYMBOL_COUNT: usize = 16;
const OPTIONAL_HEADER_SIZE: usize = 20;
const OPTIONAL_HEADER: usize = 24;
const INITIALIZED_DATA_SIZE: usize = OPTIONAL_HEADER + 8;
const SECTION_ALIGNMENT: usize = OPTIONAL_HEADER + 32;
const FILE_ALIGNMENT: usize = OPTIONAL_HEADER + 36;
const IMAGE_SIZE: usize = OPTIONAL_HEADER + 56;
const HEADERS_SIZE: usize = OPTIONAL_HEADER + 60;
const CHECKSUM: usize = OPTIONAL_HEADER + 64;

/// An entry of the section table, and offsets within it.
const ENTRY_BYTES: usize = 40;
const NAME_BYTES: usize = 8;
const VIRTUAL_SIZE: usize = 8;
const VIRTUAL_ADDRESS: usize = 12;
const RAW_SIZE: usize = 16;
const RAW_OFFSET: usize = 20;
const CHARACTERISTICS: usize = 36;

/// Initialized data that is only read.
const READ_ONLY_DATA: u32 = 0x4000_0040;
/// New sections begin at pages, whatever the program's own alignment is.
const PAGE_BYTES: u32 = 4096;

/// Addresses and offsets have 32 bits.
const TOO_LARGE: &str = "the image is too large for it";

/// A section to add.
pub(crate) struct Section<'a> {
    /// At most eight bytes.
    pub(crate) name: &'static str,
    pub(crate) contents: &'a [u8],
}

/// The number of the processors that a program is for.
pub(crate) fn machine(program: &[u8]) -> Option<u16> {
    let headers = usize_at(program, HEADERS_OFFSET).ok()?;
    let is_program = program.get(headers..)?.starts_with(SIGNATURE);
    is_program.then(|| u16_at(program, headers + MACHINE).ok())?
}

/// The program with further sections. Symbols, which are for debuggers, are left out.
pub(crate) fn with_sections(program: &[u8], sections: &[Section<'_>]) -> Result<Vec<u8>, ImageError> {
    let layout = Layout::of(program)?;
    let mut output = program
        .get(..layout.raw_end)
        .ok_or_else(|| invalid("a section's bytes are behind its end"))?
        .to_vec();
    let mut address = layout.memory_end;
    for (number, section) in sections.iter().enumerate() {
        let entry = layout.table + (layout.count + number) * ENTRY_BYTES;
        if entry + ENTRY_BYTES > layout.headers_size {
            return Err(invalid("it has no room for the sections of an image"));
        }
        address = address
            .checked_next_multiple_of(PAGE_BYTES.max(layout.section_alignment))
            .ok_or_else(|| invalid(TOO_LARGE))?;
        let aligned = output.len().next_multiple_of(layout.file_alignment);
        output.resize(aligned, 0);
        let size = size_of_section(section.contents.len())?;
        let raw_size = size_of_section(section.contents.len().next_multiple_of(layout.file_alignment))?;
        output[entry..entry + ENTRY_BYTES].fill(0);
        output[entry..entry + section.name.len().min(NAME_BYTES)].copy_from_slice(section.name.as_bytes());
        put(&mut output, entry + VIRTUAL_SIZE, size);
        put(&mut output, entry + VIRTUAL_ADDRESS, address);
        put(&mut output, entry + RAW_SIZE, raw_size);
        put(&mut output, entry + RAW_OFFSET, size_of_section(aligned)?);
        put(&mut output, entry + CHARACTERISTICS, READ_ONLY_DATA);
        output.extend_from_slice(section.contents);
        address = address.checked_add(size).ok_or_else(|| invalid(TOO_LARGE))?;
    }
    let aligned = output.len().next_multiple_of(layout.file_alignment);
    output.resize(aligned, 0);

    let headers = layout.headers;
    let count = u16::try_from(layout.count + sections.len()).map_err(|_| invalid("too many sections"))?;
    output[headers + SECTION_COUNT..][..2].copy_from_slice(&count.to_le_bytes());
    put(&mut output, headers + SYMBOL_TABLE, 0);
    put(&mut output, headers + SYMBOL_COUNT, 0);
    let image_size = address
        .checked_next_multiple_of(layout.section_alignment)
        .ok_or_else(|| invalid(TOO_LARGE))?;
    put(&mut output, headers + IMAGE_SIZE, image_size);
    let data = u32_at(program, headers + INITIALIZED_DATA_SIZE)?.wrapping_add(address - layout.memory_end);
    put(&mut output, headers + INITIALIZED_DATA_SIZE, data);
    // No firmware looks at it.
    put(&mut output, headers + CHECKSUM, 0);
    Ok(output)
}

/// What of a program's headers tells where more can go.
struct Layout {
    headers: usize,
    table: usize,
    count: usize,
    headers_size: usize,
    section_alignment: u32,
    file_alignment: usize,
    /// The end of all sections in memory, and in the file.
    memory_end: u32,
    raw_end: usize,
}

impl Layout {
    fn of(program: &[u8]) -> Result<Self, ImageError> {
        let headers = usize_at(program, HEADERS_OFFSET)?;
        if program
            .get(headers..)
            .is_none_or(|rest| !rest.starts_with(SIGNATURE))
        {
            return Err(invalid("it is no EFI program"));
        }
        if u16_at(program, headers + OPTIONAL_HEADER)? != PE32_PLUS {
            return Err(invalid("it is no 64-bit program"));
        }
        let optional_header_size = usize::from(u16_at(program, headers + OPTIONAL_HEADER_SIZE)?);
        let mut layout = Self {
            headers,
            table: headers + OPTIONAL_HEADER + optional_header_size,
            count: usize::from(u16_at(program, headers + SECTION_COUNT)?),
            headers_size: usize_at(program, headers + HEADERS_SIZE)?.min(program.len()),
            section_alignment: alignment(u32_at(program, headers + SECTION_ALIGNMENT)?)?,
            file_alignment: usize::try_from(alignment(u32_at(program, headers + FILE_ALIGNMENT)?)?)
                .map_err(|_| invalid("its alignment is too large"))?,
            memory_end: 0,
            raw_end: 0,
        };
        if headers + CHECKSUM + size_of::<u32>() > layout.headers_size {
            return Err(invalid("it is cut short"));
        }
        layout.raw_end = layout.headers_size;
        for number in 0..layout.count {
            let entry = layout.table + number * ENTRY_BYTES;
            let memory_end = u32_at(program, entry + VIRTUAL_ADDRESS)?
                .checked_add(u32_at(program, entry + VIRTUAL_SIZE)?)
                .ok_or_else(|| invalid("a section is behind the end of memory"))?;
            let raw_end = usize_at(program, entry + RAW_OFFSET)? + usize_at(program, entry + RAW_SIZE)?;
            layout.memory_end = layout.memory_end.max(memory_end);
            layout.raw_end = layout.raw_end.max(raw_end);
        }
        Ok(layout)
    }
}

fn alignment(value: u32) -> Result<u32, ImageError> {
    if value.is_power_of_two() {
        Ok(value)
    } else {
        Err(invalid("its alignment is no power of two"))
    }
}

fn invalid(reason: &'static str) -> ImageError {
    ImageError::InvalidStub { reason }
}

fn size_of_section(bytes: usize) -> Result<u32, ImageError> {
    u32::try_from(bytes).map_err(|_| invalid(TOO_LARGE))
}

fn put(output: &mut [u8], offset: usize, value: u32) {
    output[offset..offset + size_of::<u32>()].copy_from_slice(&value.to_le_bytes());
}

fn usize_at(program: &[u8], offset: usize) -> Result<usize, ImageError> {
    usize::try_from(u32_at(program, offset)?).map_err(|_| invalid("it is cut short"))
}

fn u32_at(program: &[u8], offset: usize) -> Result<u32, ImageError> {
    let bytes = program.get(offset..).and_then(|rest| rest.first_chunk());
    bytes
        .map(|bytes| u32::from_le_bytes(*bytes))
        .ok_or_else(|| invalid("it is cut short"))
}

fn u16_at(program: &[u8], offset: usize) -> Result<u16, ImageError> {
    let bytes = program.get(offset..).and_then(|rest| rest.first_chunk());
    bytes
        .map(|bytes| u16::from_le_bytes(*bytes))
        .ok_or_else(|| invalid("it is cut short"))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::{Section, u16_at, u32_at, usize_at, with_sections};

    /// The least program: headers of 1 KiB with one section, and as many bytes of it as the file's alignment.
    pub(crate) fn program() -> Vec<u8> {
        let mut program = vec![0; 1536];
        program[0x3c] = 0x80;
        program[0x80..0x84].copy_from_slice(b"PE\0\0");
        let mut put = |offset: usize, value: u32| {
            program[offset..offset + 4].copy_from_slice(&value.to_le_bytes());
        };
        put(0x80 + 6, 1);
        put(0x80 + 12, 4711);
        put(0x80 + 20, 240);
        put(0x98, 0x20b);
        put(0x98 + 32, 512);
        put(0x98 + 36, 512);
        put(0x98 + 56, 0x1200);
        put(0x98 + 60, 1024);
        let entry = 0x98 + 240;
        put(entry + 8, 0x10);
        put(entry + 12, 0x1000);
        put(entry + 16, 512);
        put(entry + 20, 1024);
        program[entry..entry + 5].copy_from_slice(b".text");
        program
    }

    /// A section's bytes, found as firmware finds them: by the table.
    pub(crate) fn section<'a>(program: &'a [u8], name: &str) -> Option<(u32, &'a [u8])> {
        let headers = usize_at(program, 0x3c).unwrap();
        let count = usize::from(u16_at(program, headers + 6).unwrap());
        let table = headers + 24 + usize::from(u16_at(program, headers + 20).unwrap());
        let entries = (0..count).map(|number| &program[table + number * 40..][..40]);
        let mut found =
            entries.filter(|entry| entry[..8].split(|byte| *byte == 0).next() == Some(name.as_bytes()));
        let entry = found.next()?;
        let offset = usize_at(entry, 20).unwrap();
        let contents = &program[offset..offset + usize_at(entry, 8).unwrap()];
        Some((u32_at(entry, 12).unwrap(), contents))
    }

    #[test]
    fn sections_are_added_behind_all_others() {
        let sections = [
            Section {
                name: ".osrel",
                contents: b"ID=peerpods\n",
            },
            Section {
                name: ".linux",
                contents: &[7; 5000],
            },
            Section {
                name: ".initrd",
                contents: b"initrd",
            },
        ];
        let output = with_sections(&program(), &sections).unwrap();
        assert_eq!(section(&output, ".text").unwrap().0, 0x1000);
        assert_eq!(section(&output, ".osrel"), Some((0x2000, &b"ID=peerpods\n"[..])));
        assert_eq!(section(&output, ".linux"), Some((0x3000, &[7; 5000][..])));
        assert_eq!(section(&output, ".initrd"), Some((0x5000, &b"initrd"[..])));
        // The size of all in memory, the file's alignment, and no symbols.
        assert_eq!(u32_at(&output, 0x98 + 56).unwrap(), 0x5200);
        assert_eq!(output.len() % 512, 0);
        assert_eq!(u32_at(&output, 0x80 + 12).unwrap(), 0);
    }

    #[test]
    fn what_is_no_program_or_has_no_room_is_refused() {
        let message = |program: &[u8], sections: &[Section<'_>]| {
            with_sections(program, sections).unwrap_err().to_string()
        };
        let many: Vec<Section<'_>> = (0..20)
            .map(|_| Section {
                name: ".many",
                contents: b"x",
            })
            .collect();
        assert!(message(&program(), &many).ends_with("it has no room for the sections of an image"));
        assert!(message(b"#!/bin/sh\n", &[]).ends_with("it is cut short"));
        assert!(message(&[0; 256], &[]).ends_with("it is no EFI program"));
    }

    #[test]
    fn a_damaged_program_is_refused_or_used_and_nothing_panics() {
        let sections = [Section {
            name: ".linux",
            contents: &[7; 600],
        }];
        for length in 0..program().len() {
            let _ = with_sections(&program()[..length], &sections);
        }
        for position in 0..1024 {
            for value in [0, 1, 0x7f, 0xff] {
                let mut damaged = program();
                damaged[position] = value;
                let _ = with_sections(&damaged, &sections);
            }
        }
    }
}
