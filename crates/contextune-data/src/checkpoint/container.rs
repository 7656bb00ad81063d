//! What holds the tensors of a file, told by its bytes; of any other file, what it is.

use std::io::Cursor;

use ::zip::read::ZipArchive;

use super::error::{Error, Result};
use super::tensor::Bytes;
use super::zip;

/// First pickle of a PyTorch file from before 1.6, a stream of pickles: the integer 0x1950a86a20f9469cfc6c.
pub(super) const TORCH_STREAM: [u8; 15] = [
    0x80, 0x02, 0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19, b'.',
];

/// How a file holds tensors.
pub(super) enum Container {
    /// A safetensors file.
    Safetensors,
    /// What `torch.save` or `torch.jit.save` wrote.
    Torch,
    /// A zip archive of NumPy arrays.
    Npz,
}

/// Recognises the container by the file's first bytes.
///
/// # Errors
/// [`Error::NotACheckpoint`], which says what the file is instead.
pub(super) fn container(file: &Bytes) -> Result<Container> {
    let bytes: &[u8] = file;
    if bytes.starts_with(zip::MAGIC) && is_npz(file) {
        return Ok(Container::Npz);
    }
    if bytes.starts_with(zip::MAGIC) || bytes.starts_with(&TORCH_STREAM) {
        return Ok(Container::Torch);
    }
    // Eight bytes of header length, then the header, which is JSON.
    if let Some((length, b"{\"" | b"{}" | b"{ ")) = bytes
        .split_first_chunk::<8>()
        .and_then(|(length, rest)| Some((u64::from_le_bytes(*length), rest.get(..2)?)))
        && length <= 100_000_000
    {
        return Ok(Container::Safetensors);
    }
    let (what, advice) = other_kind(bytes);
    Err(Error::not_a_checkpoint(&file.path, what, advice))
}

/// Returns whether a zip archive holds NumPy arrays and nothing else.
fn is_npz(file: &Bytes) -> bool {
    ZipArchive::new(Cursor::new(&**file)).is_ok_and(|archive| {
        let mut names = archive.file_names().peekable();
        names.peek().is_some() && names.all(|name| name.is_ok_and(|name| name.ends_with(".npy")))
    })
}

const EXPECTED: &str = "expected a safetensors file, a PyTorch file, or a folder with config.json or open_clip_config.json";

fn other_kind(bytes: &[u8]) -> (&'static str, &'static str) {
    let start = &bytes[..bytes.len().min(512)];
    let text = start.trim_ascii_start().to_ascii_lowercase();
    let is = |magic: &[u8]| start.starts_with(magic);
    if is(b"version https://git-lfs") {
        return (
            "a Git LFS pointer, which only names the real file",
            "run `git lfs pull` where it was cloned, or download the file itself",
        );
    }
    if text.starts_with(b"<!doctype html") || text.starts_with(b"<html") {
        return (
            "a web page",
            "the download was answered by a page: use the link of the file itself",
        );
    }
    if text.starts_with(b"{") {
        return (
            "a JSON text",
            "pass the folder that holds it and the weights",
        );
    }
    let is_webp = is(b"RIFF") && start.get(8..12) == Some(b"WEBP");
    let is_bitmap = is(b"\x89PNG") || is(b"\xff\xd8\xff") || is(b"GIF8") || is(b"BM");
    let kind = if is_bitmap || is_webp {
        "a picture"
    } else if is(b"%PDF") {
        "a PDF document"
    } else if is(b"\x1f\x8b") || is(b"7z\xbc\xaf") || is(b"\xfd7zXZ") || is(b"\x28\xb5\x2f\xfd") {
        return ("a compressed file", "unpack it first");
    } else if start.get(257..262) == Some(b"ustar") {
        return ("a tar archive", "unpack it first");
    } else if is(b"GGUF") {
        "a GGUF model"
    } else if is(b"\x89HDF") {
        "an HDF5 file (Keras)"
    } else if is(b"\x93NUMPY") {
        "a NumPy array"
    } else if start.first() == Some(&0x80) && start.get(1).is_some_and(|version| *version <= 5) {
        "a Python pickle that torch.save did not write"
    } else if bytes
        .iter()
        .take(512)
        .all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace())
    {
        "a text"
    } else {
        "a file of an unknown kind, or the later part of one"
    };
    (kind, EXPECTED)
}
