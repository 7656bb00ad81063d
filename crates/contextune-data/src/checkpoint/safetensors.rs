//! The safetensors container, and models written in it under OpenAI's names.

use std::collections::BTreeMap;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::Arc;

use ::safetensors::{Dtype, SafeTensors};
use half::f16;
use serde_json::json;

use super::error::{Error, Result};
use super::opened::Normalization;
use super::parameters;
use super::tensor::{Bytes, ElementType, StoredTensor, TensorTable, contiguous_strides};
use crate::architecture::ModelConfig;
use crate::files;

/// Metadata of files that this library writes: the [`ModelConfig`] and the [`Normalization`] as JSON.
pub(super) const CONFIG_KEY: &str = "clip_config";
pub(super) const NORMALIZATION_KEY: &str = "normalization";

/// Tensors of a file, and the texts that its writer put beside them.
pub(super) struct Contents {
    pub(super) tensors: TensorTable,
    pub(super) metadata: BTreeMap<String, String>,
}

pub(super) fn read(file: &Arc<Bytes>) -> Result<Contents> {
    let (header_length, header) = SafeTensors::read_metadata(file).map_err(|error| {
        Error::damaged(
            &file.path,
            format!(
                "as a safetensors file of {} bytes it does not hold what its header says ({error})",
                file.len()
            ),
        )
    })?;
    let data_start = 8 + header_length;
    let tensors = header
        .tensors()
        .into_iter()
        .map(|(name, info)| {
            let (start, end) = info.data_offsets;
            let tensor = StoredTensor::new(
                file,
                &name,
                element_type(info.dtype),
                data_start + start..data_start + end,
                0,
                info.shape.clone(),
                contiguous_strides(&info.shape),
            )?;
            Ok((name, tensor))
        })
        .collect::<Result<_>>()?;
    let metadata = header.metadata().clone().unwrap_or_default();
    Ok(Contents {
        tensors,
        metadata: metadata.into_iter().collect(),
    })
}

fn element_type(dtype: Dtype) -> ElementType {
    match dtype {
        Dtype::F16 => ElementType::Half,
        Dtype::BF16 => ElementType::BFloat16,
        Dtype::F32 => ElementType::Single,
        Dtype::F64 => ElementType::Double,
        Dtype::I64 => ElementType::Other("int64", 8),
        Dtype::I32 => ElementType::Other("int32", 4),
        Dtype::I8 => ElementType::Other("int8", 1),
        Dtype::U8 => ElementType::Other("uint8", 1),
        Dtype::F8_E4M3 | Dtype::F8_E5M2 => ElementType::Other("float8", 1),
        // Types below one byte count as a byte: their tensors are never read.
        other => ElementType::Other("a type that is no weight", (other.bitsize() / 8).max(1)),
    }
}

/// Precision of a written model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// fp16: half the size; what the fingerprint sees.
    Half,
    /// fp32
    Single,
}

/// Writes a model as a safetensors file under OpenAI's names, its configuration and normalisation in the metadata.
///
/// `read` is asked for each weight by name, in the order of the file, and answers in row-major order: one weight is in
/// memory at a time, none can be forgotten, and equal weights give equal bytes. `metadata` is added to the file's;
/// its keys must not be the two that [`super::open`] reads back. The file appears under its name only when complete.
///
/// # Errors
/// What `read` returns; a weight of another length ([`Error::WrongShape`]); NaN, an infinity or a value beyond fp16
/// where that was asked for ([`Error::NotFinite`]); a folder that cannot be written.
pub fn write(
    path: &Path,
    config: &ModelConfig,
    normalization: &Normalization,
    precision: Precision,
    metadata: &BTreeMap<String, String>,
    mut read: impl FnMut(&str) -> Result<Vec<f32>>,
) -> Result<()> {
    parameters::check_config(path, config)?;
    let parameters = parameters::parameters(config);
    let header = header(
        path,
        config,
        normalization,
        precision,
        metadata,
        &parameters,
    )?;

    files::replace(
        path,
        |error| Error::io(path)(error),
        |file| {
            let mut file = BufWriter::new(file);
            let mut put = |bytes: &[u8]| file.write_all(bytes).map_err(Error::io(path));
            put(&(header.len() as u64).to_le_bytes())?;
            put(&header)?;
            for (name, shape) in &parameters {
                let values = read(name)?;
                if values.len() != shape.iter().product::<usize>() {
                    return Err(Error::WrongShape {
                        path: path.to_owned(),
                        name: name.clone(),
                        found: vec![values.len()],
                        expected: shape.clone(),
                    });
                }
                put(&encode(path, name, &values, precision)?)?;
            }
            file.flush().map_err(Error::io(path))
        },
    )
}

/// Returns the JSON header, padded so that the data starts at a multiple of 8 bytes.
fn header(
    path: &Path,
    config: &ModelConfig,
    normalization: &Normalization,
    precision: Precision,
    metadata: &BTreeMap<String, String>,
    parameters: &[(String, Vec<usize>)],
) -> Result<Vec<u8>> {
    let json = |error: serde_json::Error| Error::config(path, error.to_string());
    let (dtype, size) = match precision {
        Precision::Half => ("F16", 2),
        Precision::Single => ("F32", 4),
    };
    let mut texts = metadata.clone();
    texts.insert(
        CONFIG_KEY.into(),
        serde_json::to_string(config).map_err(json)?,
    );
    texts.insert(
        NORMALIZATION_KEY.into(),
        serde_json::to_string(normalization).map_err(json)?,
    );

    // BTreeMap: the order of the keys, and so the bytes of the file, are the same in every run.
    let mut entries = BTreeMap::from([("__metadata__", json!(texts))]);
    let mut start = 0;
    for (name, shape) in parameters {
        let end = start + size * shape.iter().product::<usize>();
        entries.insert(
            name,
            json!({"dtype": dtype, "shape": shape, "data_offsets": [start, end]}),
        );
        start = end;
    }
    let mut header = serde_json::to_vec(&entries).map_err(json)?;
    header.resize(header.len().next_multiple_of(8), b' ');
    Ok(header)
}

/// Encodes the elements as bytes; refuses what is not finite in this precision.
pub(super) fn encode(
    path: &Path,
    name: &str,
    values: &[f32],
    precision: Precision,
) -> Result<Vec<u8>> {
    let finite = |value: f32| match precision {
        Precision::Half => f16::from_f32(value).is_finite(),
        Precision::Single => value.is_finite(),
    };
    if let Some(index) = values.iter().position(|&value| !finite(value)) {
        return Err(Error::NotFinite {
            path: path.to_owned(),
            name: name.to_owned(),
            index,
            value: values[index],
        });
    }
    Ok(match precision {
        Precision::Half => files::bytes_of(values, |value| f16::from_f32(value).to_le_bytes()),
        Precision::Single => files::bytes_of(values, f32::to_le_bytes),
    })
}
