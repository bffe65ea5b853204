//! The fields of a parsed head, in the bytes that were received.

use std::mem::MaybeUninit;

use http::HeaderName;
use httparse::Header;

use crate::wire::fields::{Fields, length_bit};

/// The largest number of fields of a head.
const FIELDS_MAX: usize = 256;

/// Room for the fields of a head. It is on the stack, because a head is processed without a suspension.
pub(super) struct FieldStorage<'h>([MaybeUninit<Header<'h>>; FIELDS_MAX]);

/// Fields as the pipeline reads them.
#[derive(Debug, Clone, Copy)]
pub(super) struct HeadFields<'f> {
    fields: &'f [Header<'f>],
    /// A bit for the length of each name, so that most lookups of an absent name end at once.
    lengths: u64,
}

impl<'f> HeadFields<'f> {
    pub(super) fn new(fields: &'f [Header<'f>]) -> Self {
        let lengths = fields.iter().fold(0, |lengths, field| lengths | length_bit(field.name));
        Self { fields, lengths }
    }
}

impl<'h> FieldStorage<'h> {
    pub(super) fn new() -> Self {
        Self([const { MaybeUninit::uninit() }; FIELDS_MAX])
    }

    pub(super) fn slots(&mut self) -> &mut [MaybeUninit<Header<'h>>] {
        &mut self.0
    }
}

impl Fields for HeadFields<'_> {
    fn field_values<'f>(&'f self, name: &HeaderName) -> impl Iterator<Item = &'f [u8]> {
        let name = name.as_str();
        let fields = if self.lengths & length_bit(name) == 0 { &[] } else { self.fields };
        fields.iter().filter(move |field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
    }

    fn field_names(&self) -> impl Iterator<Item = &str> {
        self.fields.iter().map(|field| field.name)
    }
}
