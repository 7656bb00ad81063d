//! Files of `torch.save` and `torch.jit.save`: a pickle, and the tensors' storages beside it.
//!
//! Both containers are read: the zip archive (PyTorch ≥ 1.6; its root folder may have any name) and the older stream
//! of pickles. Storages are mapped where they lie. Containers are described in PyTorch's `torch/serialization.py`.

use std::collections::HashMap;
use std::io::Cursor;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use zip::read::ZipArchive;

use super::container::{Container, TORCH_STREAM, container};
use super::error::{Error, Result};
use super::tensor::{Bytes, ElementType, StoredTensor, TensorTable};
use super::zip::locate;
use crate::pickle::{Handle, Pickle, PickleError, Value};

/// Attributes of all modules of a TorchScript archive; RN50x64 has about 10,000.
const MAX_ATTRIBUTES: usize = 1_000_000;
/// Bytes in the dotted name of a tensor, which also bounds the nesting of modules.
const MAX_NAME_LENGTH: usize = 1_000;

/// An opened PyTorch file. Nothing in it is executed (see [`crate::pickle`]).
#[derive(Debug)]
pub struct TorchArchive {
    file: Arc<Bytes>,
    pickle: Pickle,
    /// Byte range of each storage in the file.
    storages: HashMap<String, Range<usize>>,
}

impl TorchArchive {
    /// Opens a file of either container.
    ///
    /// # Errors
    /// A file that is neither, is cut short, is compressed or big-endian, or whose pickle is malformed.
    pub fn open(path: &Path) -> Result<Self> {
        let file = Bytes::map(path)?;
        match container(&file)? {
            Container::Torch => Self::from_bytes(file),
            Container::Safetensors => Err(Error::not_a_checkpoint(
                path,
                "a safetensors file",
                "expected a PyTorch file",
            )),
            Container::Npz => Err(Error::not_a_checkpoint(
                path,
                "an archive of NumPy arrays",
                "expected a PyTorch file",
            )),
        }
    }

    pub(super) fn from_bytes(file: Arc<Bytes>) -> Result<Self> {
        if file.starts_with(&TORCH_STREAM) {
            Self::open_legacy(file)
        } else {
            Self::open_zip(file)
        }
    }

    /// Returns the saved object.
    pub fn pickle(&self) -> &Pickle {
        &self.pickle
    }

    /// Returns the tensors of a model or of a training checkpoint under their own names.
    ///
    /// A TorchScript module gives its parameters and buffers as `state_dict()` would; a `dict` gives the tensors of its entry
    /// `state_dict`, else its own, else those of the entry that trainers keep a model in. What is not a tensor is skipped.
    ///
    /// # Errors
    /// [`Error::NotACheckpoint`] where no tensor is found so, [`Error::Damaged`] for a tensor beyond its storage.
    pub fn tensors(&self) -> Result<TensorTable> {
        let root = self.pickle.root();
        let mut table = TensorTable::new();
        if self.is_script_module() {
            self.collect_modules(root, &mut table)?;
        } else {
            let dict = self.dict_of_tensors(root, 0).unwrap_or(root);
            for &(name, value) in self.pickle.entries(dict).unwrap_or_default() {
                if let Some(name) = self.pickle.text(name)
                    && let Some(tensor) = self.tensor(name, value)?
                {
                    table.insert(name.to_owned(), tensor);
                }
            }
        }
        if table.is_empty() {
            return Err(Error::not_a_checkpoint(
                &self.file.path,
                format!("a PyTorch file of {}", self.describe(root)),
                "expected a TorchScript model or a dict of tensors such as model.state_dict()",
            ));
        }
        Ok(table)
    }

    /// Returns the dict that holds the tensors of a model, in `dict` or at most two dicts deeper.
    fn dict_of_tensors(&self, dict: Handle, depth: usize) -> Option<Handle> {
        const DEEPEST: usize = 2;
        const KEYS: [&str; 8] = [
            "state_dict",
            "model_state_dict",
            "model",
            "module",
            "net",
            "network",
            "weights",
            "params",
        ];
        let inner = |key: &str| {
            let inner = self.pickle.get(dict, key)?;
            self.dict_of_tensors(inner, depth + 1)
        };
        if depth > DEEPEST {
            return None;
        }
        if let Some(found) = inner(KEYS[0]) {
            return Some(found);
        }
        let is_tensor = |value: Handle| {
            let call = self.pickle.call(value);
            call.is_some_and(|(function, _)| function.module == "torch._utils")
        };
        let mut entries = self.pickle.entries(dict)?.iter();
        match entries.any(|&(_, value)| is_tensor(value)) {
            true => Some(dict),
            false => KEYS[1..].iter().find_map(|key| inner(key)),
        }
    }

    /// Returns whether the file was written by `torch.jit.save`.
    pub fn is_script_module(&self) -> bool {
        self.class_of(self.pickle.root())
            .is_some_and(|module| module.starts_with("__torch__"))
    }

    /// Returns the tensor called `name` (for messages) behind a handle of [`Self::pickle`]; `None` for another value.
    ///
    /// # Errors
    /// [`Error::Damaged`] for a tensor whose storage is missing or too short.
    pub fn tensor(&self, name: &str, handle: Handle) -> Result<Option<StoredTensor>> {
        let Some((function, arguments)) = self.pickle.call(handle) else {
            return Ok(None);
        };
        if function.module != "torch._utils" {
            return Ok(None);
        }
        match (&*function.name, arguments) {
            // A parameter wraps its tensor, and never another parameter.
            ("_rebuild_parameter" | "_rebuild_parameter_with_state", [data, ..]) => {
                match self.pickle.call(*data) {
                    Some((inner, _)) if inner.name.starts_with("_rebuild_tensor") => {
                        self.tensor(name, *data)
                    }
                    _ => Ok(None),
                }
            }
            // The second form carries whether gradients are wanted and hooks after these four.
            ("_rebuild_tensor" | "_rebuild_tensor_v2", [storage, offset, size, stride, ..]) => self
                .rebuild(name, *storage, *offset, *size, *stride)
                .map(Some),
            _ => Ok(None),
        }
    }

    fn rebuild(
        &self,
        name: &str,
        storage: Handle,
        offset: Handle,
        size: Handle,
        stride: Handle,
    ) -> Result<StoredTensor> {
        let malformed =
            || Error::damaged(&self.file.path, format!("the tensor {name} is malformed"));
        let count = |handle: Handle| {
            usize::try_from(self.pickle.int(handle).ok_or_else(malformed)?).map_err(|_| malformed())
        };
        let counts = |handle: Handle| -> Result<Vec<usize>> {
            let items = self.pickle.sequence(handle).ok_or_else(malformed)?;
            items.iter().map(|&item| count(item)).collect()
        };

        let storage = parse_storage(&self.pickle, storage).ok_or_else(malformed)?;
        let range = self.storages.get(&storage.key).ok_or_else(|| {
            Error::damaged(
                &self.file.path,
                format!("the data of the tensor {name} is missing"),
            )
        })?;
        let offset = count(offset)?
            .checked_add(storage.view_offset)
            .ok_or_else(malformed)?;
        StoredTensor::new(
            &self.file,
            name,
            storage.element,
            range.clone(),
            offset,
            counts(size)?,
            counts(stride)?,
        )
    }

    /// Collects the tensors among the attributes of a module and of the modules below it, depth first.
    fn collect_modules(&self, root: Handle, table: &mut TensorTable) -> Result<()> {
        let mut pending = vec![(root, String::new())];
        let mut visited = 0;
        while let Some((module, prefix)) = pending.pop() {
            for &(name, value) in self.pickle.attributes(module).unwrap_or_default() {
                let Some(name) = self.pickle.text(name) else {
                    continue;
                };
                visited += 1;
                if visited > MAX_ATTRIBUTES || prefix.len() + name.len() > MAX_NAME_LENGTH {
                    return Err(Error::damaged(
                        &self.file.path,
                        "its modules are nested without end",
                    ));
                }
                let name = format!("{prefix}{name}");
                if let Some(tensor) = self.tensor(&name, value)? {
                    table.insert(name, tensor);
                } else if self.pickle.attributes(value).is_some() {
                    pending.push((value, format!("{name}.")));
                }
            }
        }
        Ok(())
    }

    /// Returns the module path of an object's class.
    fn class_of(&self, handle: Handle) -> Option<&str> {
        match self.pickle.value(handle) {
            Value::Object(object) => Some(&self.pickle.global(object.callable)?.module),
            _ => None,
        }
    }

    fn describe(&self, handle: Handle) -> String {
        if let Some(entries) = self.pickle.entries(handle) {
            let keys: Vec<&str> = entries
                .iter()
                .filter_map(|(key, _)| self.pickle.text(*key))
                .take(5)
                .collect();
            return format!("a dict without tensors (keys: {})", keys.join(", "));
        }
        match self.pickle.value(handle) {
            Value::Object(object) => match self.pickle.global(object.callable) {
                Some(class) => format!("a Python object {}.{}", class.module, class.name),
                None => "a Python object".into(),
            },
            Value::Tuple(_) | Value::List(_) => "a list".into(),
            _ => "a single value".into(),
        }
    }

    fn open_zip(file: Arc<Bytes>) -> Result<Self> {
        let path = &file.path;
        let mut archive = ZipArchive::new(Cursor::new(&**file)).map_err(|error| {
            Error::damaged(
                path,
                format!("it starts as a zip archive whose table of contents, at its end, cannot be read ({error})"),
            )
        })?;
        let names: Vec<String> = archive
            .file_names()
            .map(|name| name.map(|name| name.into_owned()).unwrap_or_default())
            .collect();
        let root = names
            .iter()
            .filter_map(|name| name.strip_suffix("data.pkl"))
            .find(|root| root.is_empty() || root.ends_with('/'));
        let Some(root) = root else {
            return Err(Error::not_a_checkpoint(
                path,
                format!(
                    "a zip archive of other things ({}, …)",
                    names[..names.len().min(3)].join(", ")
                ),
                "expected a PyTorch archive, which has a data.pkl",
            ));
        };
        // The rest (code, constants, records for debuggers) is not needed, and may be compressed.
        let mut entries = HashMap::new();
        for (index, name) in names.iter().enumerate() {
            if let Some(name) = name.strip_prefix(root)
                && (name.starts_with("data/") || matches!(name, "data.pkl" | "byteorder"))
            {
                entries.insert(name, locate(&mut archive, index, name, path)?);
            }
        }
        let bytes = |name: &str| entries.get(name).and_then(|range| file.get(range.clone()));
        if bytes("byteorder").is_some_and(|order| order == b"big") {
            return Err(Error::unsupported(
                path,
                "big-endian numbers",
                "save it again on a little-endian machine",
            ));
        }
        let pickle = bytes("data.pkl")
            .ok_or_else(|| Error::damaged(path, "data.pkl lies beyond its end"))
            .and_then(|bytes| Pickle::parse(bytes).map_err(malformed_pickle(path)))?;
        let storages = entries
            .into_iter()
            .filter_map(|(name, range)| Some((name.strip_prefix("data/")?.to_owned(), range)))
            .collect();
        Ok(Self {
            file,
            pickle,
            storages,
        })
    }

    fn open_legacy(file: Arc<Bytes>) -> Result<Self> {
        let path = file.path.clone();
        let mut position = TORCH_STREAM.len();
        let mut next = || {
            let rest = file.get(position..).unwrap_or_default();
            let pickle = Pickle::parse(rest).map_err(malformed_pickle(&path))?;
            position += pickle.length();
            Ok::<_, Error>(pickle)
        };
        let protocol = next()?;
        if protocol.int(protocol.root()) != Some(1001) {
            return Err(Error::damaged(&path, "its PyTorch protocol is not 1001"));
        }
        let system = next()?;
        let little = system.get(system.root(), "little_endian");
        if little.is_some_and(|little| *system.value(little) == Value::Bool(false)) {
            return Err(Error::unsupported(
                &path,
                "big-endian numbers",
                "save it again on a little-endian machine",
            ));
        }
        let pickle = next()?;
        let keys = next()?;

        // After the list of keys: for each storage its number of elements and its elements.
        let elements = storage_elements(&pickle);
        let mut storages = HashMap::new();
        for &key in keys.sequence(keys.root()).unwrap_or_default() {
            let storage = keys.text(key).and_then(|key| {
                let size = elements.get(key)?.size();
                let bytes = file.get(position..position.checked_add(8)?)?;
                let count = u64::from_le_bytes(bytes.try_into().ok()?);
                let start = position + 8;
                let end = start.checked_add(usize::try_from(count).ok()?.checked_mul(size)?)?;
                (end <= file.len()).then(|| (key.to_owned(), start..end))
            });
            let (key, range) = storage
                .ok_or_else(|| Error::damaged(&path, "the tensors at its end are cut off"))?;
            position = range.end;
            storages.insert(key, range);
        }
        Ok(Self {
            file,
            pickle,
            storages,
        })
    }
}

fn malformed_pickle(path: &Path) -> impl FnOnce(PickleError) -> Error {
    let path = path.to_owned();
    move |error| Error::damaged(&path, error.to_string())
}

/// What a pickle says about a storage.
struct Storage {
    key: String,
    element: ElementType,
    /// Elements to skip, in files from before PyTorch 0.4 that share storages.
    view_offset: usize,
}

/// Reads `("storage", class, key, device, elements[, view])`; the device (`cpu`, `cuda:0`, …) does not matter.
fn parse_storage(pickle: &Pickle, handle: Handle) -> Option<Storage> {
    let Value::Persistent(identifier) = pickle.value(handle) else {
        return None;
    };
    let [kind, class, key, _, _, view @ ..] = pickle.sequence(*identifier)? else {
        return None;
    };
    if pickle.text(*kind)? != "storage" {
        return None;
    }
    let view_offset = match view.first().and_then(|view| pickle.sequence(*view)) {
        Some([_, offset, _]) => usize::try_from(pickle.int(*offset)?).ok()?,
        _ => 0,
    };
    Some(Storage {
        key: pickle.text(*key)?.to_owned(),
        element: element_type(&pickle.global(*class)?.name)?,
        view_offset,
    })
}

/// Returns the element type of every storage that a pickle names.
fn storage_elements(pickle: &Pickle) -> HashMap<String, ElementType> {
    pickle
        .handles()
        .filter_map(|handle| parse_storage(pickle, handle))
        .map(|storage| (storage.key, storage.element))
        .collect()
}

fn element_type(storage_class: &str) -> Option<ElementType> {
    Some(match storage_class {
        "HalfStorage" => ElementType::Half,
        "BFloat16Storage" => ElementType::BFloat16,
        "FloatStorage" => ElementType::Single,
        "DoubleStorage" => ElementType::Double,
        "LongStorage" => ElementType::Other("int64", 8),
        "IntStorage" => ElementType::Other("int32", 4),
        "ShortStorage" => ElementType::Other("int16", 2),
        "CharStorage" => ElementType::Other("int8", 1),
        "ByteStorage" => ElementType::Other("uint8", 1),
        "BoolStorage" => ElementType::Other("bool", 1),
        _ => return None,
    })
}
