//! Pickles to write: the few kinds of value that files for PyTorch are made of.

/// A Python value to be pickled.
#[derive(Clone, Debug, PartialEq)]
pub enum Item {
    /// `None`
    None,
    /// `True` or `False`
    Bool(bool),
    /// `int`
    Int(i64),
    /// `str`
    Text(String),
    /// `tuple`
    Tuple(Vec<Item>),
    /// `dict` with texts as keys
    Dict(Vec<(String, Item)>),
    /// `collections.OrderedDict` with texts as keys
    OrderedDict(Vec<(String, Item)>),
    /// A class or function.
    Global {
        /// Such as `torch`.
        module: &'static str,
        /// Such as `FloatStorage`.
        name: &'static str,
    },
    /// What a call gives: what is called, then its arguments.
    Call(Box<Item>, Vec<Item>),
    /// What lies outside the pickle under this identifier (PyTorch: a tensor's storage).
    Persistent(Box<Item>),
}

impl Item {
    /// Makes a `tuple` of integers, such as a shape.
    pub fn integers(values: &[usize]) -> Self {
        Self::Tuple(values.iter().map(|&value| Self::count(value)).collect())
    }

    /// Makes an `int` of a number of things in memory.
    pub fn count(value: usize) -> Self {
        Self::Int(value as i64)
    }

    /// Encodes the value as a pickle of protocol 2, which is what `torch.save` writes.
    ///
    /// Nothing is memoised: equal values are written again, and no value may contain itself.
    pub fn to_pickle(&self) -> Vec<u8> {
        let mut bytes = vec![0x80, 2]; // PROTO
        self.append(&mut bytes);
        bytes.push(b'.'); // STOP
        bytes
    }

    fn append(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::None => bytes.push(b'N'),
            Self::Bool(true) => bytes.push(0x88),
            Self::Bool(false) => bytes.push(0x89),
            Self::Int(value) => match i32::try_from(*value) {
                // BININT
                Ok(value) => {
                    bytes.push(b'J');
                    bytes.extend(value.to_le_bytes());
                }
                // LONG1 of eight bytes
                Err(_) => {
                    bytes.extend([0x8a, 8]);
                    bytes.extend(value.to_le_bytes());
                }
            },
            Self::Text(text) => append_text(text, bytes),
            Self::Tuple(items) => append_tuple(items, bytes),
            Self::Dict(entries) => {
                bytes.push(b'}'); // EMPTY_DICT
                append_entries(entries, bytes);
            }
            Self::OrderedDict(entries) => {
                append_global("collections", "OrderedDict", bytes);
                bytes.extend(b")R"); // EMPTY_TUPLE, REDUCE
                append_entries(entries, bytes);
            }
            Self::Global { module, name } => append_global(module, name, bytes),
            Self::Call(callable, arguments) => {
                callable.append(bytes);
                append_tuple(arguments, bytes);
                bytes.push(b'R'); // REDUCE
            }
            Self::Persistent(identifier) => {
                identifier.append(bytes);
                bytes.push(b'Q'); // BINPERSID
            }
        }
    }
}

/// Appends BINUNICODE. Keys and names are far below its 4 GB.
fn append_text(text: &str, bytes: &mut Vec<u8>) {
    bytes.push(b'X');
    bytes.extend((text.len() as u32).to_le_bytes());
    bytes.extend(text.as_bytes());
}

/// Appends GLOBAL.
fn append_global(module: &str, name: &str, bytes: &mut Vec<u8>) {
    bytes.extend(format!("c{module}\n{name}\n").as_bytes());
}

/// Appends MARK … TUPLE.
fn append_tuple(items: &[Item], bytes: &mut Vec<u8>) {
    bytes.push(b'(');
    for item in items {
        item.append(bytes);
    }
    bytes.push(b't');
}

/// Appends MARK … SETITEMS.
fn append_entries(entries: &[(String, Item)], bytes: &mut Vec<u8>) {
    bytes.push(b'(');
    for (key, value) in entries {
        append_text(key, bytes);
        value.append(bytes);
    }
    bytes.push(b'u');
}
