//! What a content says, as far as the engine needs to know.

pub mod header;
