//! The drop folder: a file copied below `drop/{data source}/{version}/` becomes deltas, exactly once and all or nothing.
//!
//! Protocol. A file is one version of one object; its *identity* is the SHA-256 of its key and that version. Whoever is told of
//! a file, by an event or by a listing, and however often, does the same:
//!
//! 1. A status of the identity exists: the file is done.
//! 2. No *plan* exists: read the whole file, validate every row, write no point. Then create the plan: either the chunks that
//!    the file is to be split into, or why it is refused. Of several readers one wins, and all follow its plan. A run that has
//!    no time for all of it creates a *survey* of what it found valid; the next one goes on after it.
//! 3. The plan refuses: copy the file to `drop-refused/`, write the report and the status, delete the original.
//! 4. The plan commits: append each chunk that has no *chunk record*, in order, under a receipt of its own, and then create its
//!    record. After the last one, create the status.
//!
//! A crash anywhere is answered by doing it again: a chunk that was appended and not recorded is found by its receipt. Receipts
//! of chunks stand among the file's records, where garbage collection leaves them: however late a file is processed again,
//! nothing of it is appended twice. A run that
//! has no time left stops between two chunks and says so; the next one goes on after the last record, without decoding what is
//! committed where the format allows that.
//!
//! Owns `dropped-file-commits-once`, `validation-goes-on`, `refused-file-changes-nothing` and `dropped-file-is-untrusted`. What
//! it reads from a file is bounded before it is allocated; see `tarn_model::limits`. Memory does not grow with the file.
//!
//! Knows nothing of HTTP, of events, of Lambda, and not how an index is built. Deletes nothing but refused originals in `drop/`.

mod blocks;
mod chunk;
mod detect;
mod error;
mod folder;
mod identity;
mod listing;
mod mapping;
mod read;
mod records;
mod refuse;
mod report;
mod settings;
mod text;
mod upload;
mod watch;

pub use detect::{Compression, FileFormat};
pub use error::DropError;
pub use folder::{DropFolder, Outcome};
pub use identity::Identity;
pub use listing::{DropEntry, DropPage, DropState, list_drops};
pub use mapping::DropMapping;
pub use records::{DropStatus, Settled};
pub use report::DropReport;
pub use settings::DropSettings;
pub use upload::{Presign, PresignRequest, PresignedUpload, upload_path};
pub use watch::{Seen, Watcher};
