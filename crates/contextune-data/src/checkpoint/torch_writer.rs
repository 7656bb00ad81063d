//! Files as `torch.save` writes them: a zip archive of a pickle and the tensors' storages.
//!
//! PyTorch reads them with `weights_only=True`: the pickle names nothing but tensors and their containers. PyTorch
//! describes the container in `torch/serialization.py`.

use std::io::{self, BufWriter, Seek, Write};
use std::path::Path;

use zip::CompressionMethod;
use zip::write::{SimpleFileOptions, ZipWriter};

use super::error::{Error, Result};
use super::safetensors::{Precision, encode};
use crate::files;
use crate::pickle::Item;

/// Bytes to whose multiples `torch.save` aligns storages, so that they can be mapped.
const ALIGNMENT: u16 = 64;
/// Folder in the archive, as in what `torch.save` writes to a stream.
const ROOT: &str = "archive";

/// A file for PyTorch in the making: first its tensors, then the object that holds them.
#[derive(Debug)]
pub struct TorchWriter {
    precision: Precision,
    storages: Vec<Storage>,
}

#[derive(Debug)]
struct Storage {
    /// For messages.
    name: String,
    values: Vec<f32>,
}

impl TorchWriter {
    /// Starts a file without tensors; all that are added will have this precision.
    pub fn new(precision: Precision) -> Self {
        Self {
            precision,
            storages: Vec::new(),
        }
    }

    /// Takes the elements of a tensor in row-major order, their number the product of `shape`, and answers with the
    /// tensor's place in the object. `name` is for messages.
    pub fn tensor(&mut self, name: &str, shape: &[usize], values: Vec<f32>) -> Item {
        let strides: Vec<usize> = (0..shape.len())
            .map(|axis| shape[axis + 1..].iter().product())
            .collect();
        let class = Item::Global {
            module: "torch",
            name: match self.precision {
                Precision::Half => "HalfStorage",
                Precision::Single => "FloatStorage",
            },
        };
        let storage = Item::Persistent(Box::new(Item::Tuple(vec![
            Item::Text("storage".into()),
            class,
            Item::Text(self.storages.len().to_string()),
            Item::Text("cpu".into()),
            Item::count(values.len()),
        ])));
        self.storages.push(Storage {
            name: name.to_owned(),
            values,
        });
        let rebuild = Item::Global {
            module: "torch._utils",
            name: "_rebuild_tensor_v2",
        };
        let arguments = vec![
            storage,
            Item::count(0), // offset in the storage
            Item::integers(shape),
            Item::integers(&strides),
            Item::Bool(false),         // no gradient wanted
            Item::OrderedDict(vec![]), // no hooks
        ];
        Item::Call(Box::new(rebuild), arguments)
    }

    /// Writes `object`; the file appears under its name only when complete, and equal contents give equal bytes.
    ///
    /// # Errors
    /// NaN, an infinity or a value beyond fp16 where that was asked for ([`Error::NotFinite`]); a folder that cannot be
    /// written.
    pub fn write(&self, path: &Path, object: &Item) -> Result<()> {
        files::replace(
            path,
            |error| Error::io(path)(error),
            |file| {
                let mut archive = ZipWriter::new(BufWriter::new(file));
                let mut put = |name: &str, bytes: &[u8]| {
                    put(&mut archive, name, bytes).map_err(|error| Error::io(path)(error))
                };
                put("data.pkl", &object.to_pickle())?;
                put("byteorder", b"little")?;
                for (key, Storage { name, values }) in self.storages.iter().enumerate() {
                    let bytes = encode(path, name, values, self.precision)?;
                    put(&format!("data/{key}"), &bytes)?;
                }
                put("version", b"3\n")?;
                let finished = archive.finish().map_err(io::Error::from);
                finished
                    .and_then(|mut file| file.flush())
                    .map_err(Error::io(path))
            },
        )
    }
}

/// Adds an entry to the archive, uncompressed.
fn put(archive: &mut ZipWriter<impl Write + Seek>, name: &str, bytes: &[u8]) -> io::Result<()> {
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Stored)
        .large_file(u32::try_from(bytes.len()).is_err())
        .with_alignment(ALIGNMENT);
    archive.start_file(format!("{ROOT}/{name}"), options)?;
    archive.write_all(bytes)
}
