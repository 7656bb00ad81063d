//! Zip archives whose entries are tensors: they are mapped where they lie, so none may be compressed.

use std::io::Cursor;
use std::ops::Range;
use std::path::Path;

use ::zip::CompressionMethod;
use ::zip::read::ZipArchive;

use super::error::{Error, Result};

/// First bytes of an archive that has entries.
pub(super) const MAGIC: &[u8] = b"PK\x03\x04";

/// Returns the byte range of an entry, which must be stored without compression.
pub(super) fn locate(
    archive: &mut ZipArchive<Cursor<&[u8]>>,
    index: usize,
    name: &str,
    path: &Path,
) -> Result<Range<usize>> {
    let entry = archive.by_index_raw(index).map_err(|error| {
        Error::damaged(path, format!("its zip entry {name} is broken ({error})"))
    })?;
    if entry.compression() != CompressionMethod::Stored {
        return Err(Error::unsupported(
            path,
            format!("the compressed entry {name}"),
            "use the file as torch.save or numpy.savez wrote it: both leave it as it is",
        ));
    }
    entry
        .data_start()
        .and_then(|start| {
            let start = usize::try_from(start).ok()?;
            Some(start..start.checked_add(usize::try_from(entry.size()).ok()?)?)
        })
        .ok_or_else(|| Error::damaged(path, format!("its zip entry {name} is misplaced")))
}
