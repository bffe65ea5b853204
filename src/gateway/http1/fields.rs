//! The fields of a parsed head, in the bytes that were received.

use std::mem::MaybeUninit;

use http::HeaderName;
use httparse::Header;

use crate::wire::fields::Fields;

/// The largest number of fields of a head.
const FIELDS_MAX: usize = 256;

/// Room for the fields of a head. It is on the stack, because a head is processed without a suspension.
pub(super) struct FieldStorage<'h>([MaybeUninit<Header<'h>>; FIELDS_MAX]);

/// Fields as the pipeline reads them.
#[derive(Debug, Clone, Copy)]
pub(super) struct HeadFields<'f>(pub(super) &'f [Header<'f>]);

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
        self.0.iter().filter(|field| field.name.eq_ignore_ascii_case(name.as_str())).map(|field| field.value)
    }

    fn field_names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|field| field.name)
    }
}
