//! Moving a refused file out of the way: copy, report, status, and only then the one delete that is not garbage collection's.
//!
//! Every step can be repeated; the status comes after what it speaks of and before the delete, so that a crash between any two
//! leaves the original where the next run finds it.

use tarn_model::{FORMAT, ObjectKey};
use tarn_store::Store;

use crate::error::DropError;
use crate::folder::File;
use crate::records::{self, DropStatus, Settled};
use crate::report::DropReport;

/// Refuses a file.
pub(crate) async fn refuse(store: &Store, file: &File, report: DropReport) -> Result<DropStatus, DropError> {
    let (source, identity) = (file.source.clone(), file.identity.0);
    let copy = ObjectKey::DropRefused { source: source.clone(), identity, path: file.path.clone() };
    if !store.copy_version(&file.key(), &file.version, file.named, &copy).await? {
        // Removed by its owner, or by a run that got further: then there is a status.
        tracing::warn!(file = %file.path, source = %file.source, "a refused file is gone; its report alone is kept");
    }
    let settled_ms = store.clock().now_ms();
    let settled = Settled::Refused(report);
    let status = DropStatus { format: FORMAT, file: file.record(), settled_ms, settled };
    let beside = ObjectKey::DropReport { source, identity };
    let status = records::create(store, &beside, status).await?;
    let status = records::create(store, &file.status_key(), status).await?;
    tracing::warn!(file = %file.path, source = %file.source, "a dropped file is refused");
    remove_original(store, file).await?;
    Ok(status)
}

/// Deletes the original of a refused file, if its copy is there and the original is what it was.
///
/// Stores delete by name alone: a file that is dropped under the same name between the look and the delete would go with it. On a
/// bucket that keeps versions it is still there as a version, and its event names it.
pub(crate) async fn remove_original(store: &Store, file: &File) -> Result<(), DropError> {
    if file.named {
        return Ok(());
    }
    let copy =
        ObjectKey::DropRefused { source: file.source.clone(), identity: file.identity.0, path: file.path.clone() };
    if store.size(&copy).await? != Some(file.version.bytes) {
        return Ok(());
    }
    if store.version(&file.key(), None).await?.as_ref() == Some(&file.version) {
        store.delete(&file.key()).await?;
    }
    Ok(())
}
