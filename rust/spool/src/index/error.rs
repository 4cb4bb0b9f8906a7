//! What can go wrong in the index.

use std::fmt::Write as _;
use std::io;
use std::path::PathBuf;

use crate::facts::HopId;

/// Why the index could not be opened, asked or changed.
///
/// Whatever it is, the state before the call is still there: a transaction is committed whole or not at all.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IndexError {
    /// The directory could not be made or looked at.
    #[error("{path}: {source}", path = path.display())]
    Directory {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// Somebody else could change the files while they are mapped.
    #[error("{path} belongs to another user, or is not what it should be", path = .0.display())]
    Foreign(PathBuf),
    /// The index belongs to another log.
    #[error("the index belongs to another database")]
    OtherDatabase,
    /// A later version has written it.
    #[error("the index has format {found}, this program knows {known}")]
    NewerFormat { found: u32, known: u32 },
    /// The map has no room left. Nothing was changed; a larger map is given at open.
    #[error("the index has reached the size of its map")]
    Full,
    /// LMDB failed; it reports a full disk as an I/O error. After a failed commit the index must be opened anew.
    #[error("the index could not {doing}: {source}")]
    Lmdb {
        doing: &'static str,
        #[source]
        source: heed::Error,
    },
    /// A row is missing, or is not what its table allows.
    #[error("the index is damaged in table {table} at {key}: {what}")]
    Damaged { table: &'static str, key: String, what: &'static str },
    /// A record gives entries or a state to a hop that neither it nor the index has a name for.
    #[error("the name of hop {:032x} is not known", .0.0)]
    Unnamed(HopId),
}

impl IndexError {
    /// Whether the index is no good, and has to be made anew: neither the system nor a later version is to blame.
    pub(crate) fn is_damage(&self) -> bool {
        use heed::{Error, MdbError};
        match self {
            Self::OtherDatabase | Self::Damaged { .. } | Self::Unnamed(_) => true,
            Self::Lmdb { source: Error::Mdb(error), .. } => matches!(
                error,
                MdbError::KeyExist
                    | MdbError::NotFound
                    | MdbError::PageNotFound
                    | MdbError::Corrupted
                    | MdbError::Panic
                    | MdbError::VersionMismatch
                    | MdbError::Invalid
                    | MdbError::CursorFull
                    | MdbError::PageFull
                    | MdbError::Incompatible
                    | MdbError::BadTxn
                    | MdbError::BadValSize
            ),
            _ => false,
        }
    }

    /// Tell what LMDB was asked to do when it failed.
    pub(crate) fn lmdb(doing: &'static str) -> impl Fn(heed::Error) -> Self {
        move |source| match source {
            heed::Error::Mdb(heed::MdbError::MapFull) => Self::Full,
            source => Self::Lmdb { doing, source },
        }
    }

    /// Tell which row is damaged.
    pub(super) fn damaged(table: &'static str, key: &[u8], what: &'static str) -> Self {
        let mut text = String::with_capacity(2 * key.len());
        for octet in key {
            let _ = write!(text, "{octet:02x}");
        }
        Self::Damaged { table, key: text, what }
    }
}
