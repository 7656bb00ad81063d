//! What files have in common: numbers as bytes, mapping, and writing so that a kill does no harm.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use safetensors::Dtype;
use safetensors::tensor::TensorView;

/// Returns the numbers that stand one after another in `bytes`, each as `number` reads it, such as
/// [`f32::from_le_bytes`].
pub fn numbers<T, const SIZE: usize>(
    bytes: &[u8],
    number: impl Fn([u8; SIZE]) -> T,
) -> impl ExactSizeIterator<Item = T> {
    let (chunks, _) = bytes.as_chunks();
    chunks.iter().map(move |&chunk| number(chunk))
}

/// Fills `values` with the numbers of `bytes`; see [`numbers`].
pub fn read_numbers<T, const SIZE: usize>(
    bytes: &[u8],
    number: impl Fn([u8; SIZE]) -> T,
    values: &mut [T],
) {
    for (value, number) in values.iter_mut().zip(numbers(bytes, number)) {
        *value = number;
    }
}

/// Returns the numbers one after another, each as `bytes` writes it, such as [`f32::to_le_bytes`].
pub fn bytes_of<T: Copy, const SIZE: usize>(
    numbers: &[T],
    bytes: impl Fn(T) -> [u8; SIZE],
) -> Vec<u8> {
    numbers.iter().flat_map(|&number| bytes(number)).collect()
}

/// Writes what [`bytes_of`] returns without holding it; `file` should be buffered.
pub fn write_numbers<T: Copy, const SIZE: usize>(
    file: &mut impl Write,
    numbers: &[T],
    bytes: impl Fn(T) -> [u8; SIZE],
) -> io::Result<()> {
    numbers
        .iter()
        .try_for_each(|&number| file.write_all(&bytes(number)))
}

/// Returns the elements of the tensor `name`, in row-major order, all of them finite; the error says what is wrong with
/// it.
pub fn finite_values(name: &str, view: &TensorView<'_>) -> Result<Vec<f32>, String> {
    if view.dtype() != Dtype::F32 {
        return Err(format!("{name} is {:?}, not F32", view.dtype()));
    }
    let values: Vec<f32> = numbers(view.data(), f32::from_le_bytes).collect();
    match values.iter().position(|value| !value.is_finite()) {
        Some(element) => Err(format!(
            "element {element} of {name} is not a finite number"
        )),
        None => Ok(values),
    }
}

/// The file's bytes where they lie. It must not be empty.
#[allow(
    unsafe_code,
    reason = "opening a 1.7 GB model touches only its header, a million features need not fit into memory, and reading \
              costs no second copy of the bytes"
)]
pub fn map(file: &File) -> io::Result<Mmap> {
    // SAFETY: the map is only ever read, as bytes and numbers of which every pattern is valid, and every range is checked
    // against its length. A file that another process cuts while it is mapped ends this process with SIGBUS, the documented
    // risk of every memory-mapped model: our own writer replaces files instead of changing them.
    unsafe { Mmap::map(file) }
}

/// Fills a file beside `path` and renames it into place: a kill leaves the old file or the new one, and an error the old
/// one. `io` says how an error of the file system is reported.
pub fn replace<E>(
    path: &Path,
    io: impl Fn(io::Error) -> E,
    fill: impl FnOnce(&File) -> Result<(), E>,
) -> Result<(), E> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}.partial", std::process::id()));
    let beside = PathBuf::from(beside);
    let written = (|| {
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&beside)
            .map_err(&io)?;
        fill(&file)?;
        file.sync_all().map_err(&io)?;
        fs::rename(&beside, path).map_err(&io)
    })();
    if written.is_err() {
        // The error that matters is the one above.
        let _ = fs::remove_file(&beside);
    }
    written
}

/// Replaces the file at `path` with `bytes`; see [`replace`].
pub fn replace_with(path: &Path, bytes: &[u8]) -> io::Result<()> {
    replace(path, |error| error, |mut file| file.write_all(bytes))
}
