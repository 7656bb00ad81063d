//! Python pickles, parsed and never executed; and written, as far as files for PyTorch need ([`Item`]).
//!
//! A pickle is a program for a stack machine that builds values, imports globals and calls them. This reader runs the
//! machine but keeps every global and every call as data: a class, a function or `os.system` becomes a
//! [`Value::Global`], its call a [`Value::Object`]. Nothing is imported and nothing is called.
//!
//! Values live in one table and refer to each other by [`Handle`], as objects do in Python: a value that is memoised
//! and filled later stays one value, a cycle is harmless, and no value is ever copied. Parsing does not recurse, so
//! the depth of nesting costs nothing.
//!
//! Protocols 2 to 5 are read: what `torch.save` writes (2) and what `pickle.dump` writes by default. The format is
//! documented in CPython's `pickletools`.

use std::collections::HashMap;

mod writer;

pub use writer::Item;

/// Opcodes in one pickle. Each adds at most one value, memo entry or stack slot, which bounds the memory at about
/// 300 MB. A training checkpoint of the largest CLIP has about 100,000.
const MAX_OPERATIONS: usize = 4_000_000;

/// A value of a [`Pickle`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Handle(u32);

/// One Python value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `None`
    None,
    /// `True` or `False`
    Bool(bool),
    /// An integer of at most 64 bits.
    Int(i64),
    /// A longer integer: two's complement, little-endian.
    LongInt(Box<[u8]>),
    /// `float`
    Float(f64),
    /// `str`
    Text(Box<str>),
    /// `bytes` or `bytearray`
    Bytes(Box<[u8]>),
    /// `tuple`
    Tuple(Vec<Handle>),
    /// `list`
    List(Vec<Handle>),
    /// `set` or `frozenset`
    Set(Vec<Handle>),
    /// `dict`, in order of insertion; a key may occur again, then the later value counts.
    Dict(Vec<(Handle, Handle)>),
    /// A class or function that Python would import.
    Global(Box<Global>),
    /// What Python would get by calling something.
    Object(Box<Object>),
    /// What the writer stored outside the pickle, under this identifier (PyTorch: a tensor's storage).
    Persistent(Handle),
}

/// A class or function, by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Global {
    /// Such as `torch._utils`.
    pub module: String,
    /// Such as `_rebuild_tensor_v2`.
    pub name: String,
}

/// The result of a call that was not made.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    /// What would have been called, usually a [`Value::Global`].
    pub callable: Handle,
    /// Its positional arguments, a [`Value::Tuple`].
    pub arguments: Handle,
    /// What `__setstate__` would have been given: for most classes the `dict` of the attributes.
    pub state: Option<Handle>,
    /// What was set as by `object[key] = value`.
    pub entries: Vec<(Handle, Handle)>,
    /// What was appended as by `object.append(value)`.
    pub elements: Vec<Handle>,
}

/// Why bytes are not a pickle that this reader takes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("pickle, byte {offset}: {problem}")]
pub struct PickleError {
    /// Where the opcode starts.
    pub offset: usize,
    /// What is wrong there.
    pub problem: String,
}

/// The values of one pickle.
#[derive(Clone, Debug)]
pub struct Pickle {
    values: Vec<Value>,
    root: Handle,
    length: usize,
}

impl Pickle {
    /// Reads one pickle from the start of `bytes`; what follows its end is left alone (see [`Self::length`]).
    ///
    /// # Errors
    /// Bytes that end early, an opcode that is unknown or finds the wrong operands, or more than four million opcodes.
    pub fn parse(bytes: &[u8]) -> Result<Self, PickleError> {
        let mut machine = Machine {
            bytes,
            ..Machine::default()
        };
        for _ in 0..MAX_OPERATIONS {
            let offset = machine.position;
            match machine.step() {
                Ok(None) => {}
                Ok(Some(root)) => {
                    return Ok(Self {
                        values: machine.values,
                        root,
                        length: machine.position,
                    });
                }
                Err(problem) => return Err(PickleError { offset, problem }),
            }
        }
        Err(PickleError {
            offset: machine.position,
            problem: format!("more than {MAX_OPERATIONS} opcodes"),
        })
    }

    /// Returns the value that the pickle is of.
    pub fn root(&self) -> Handle {
        self.root
    }

    /// Returns the length of the pickle in bytes.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Returns the value behind a handle of this pickle.
    pub fn value(&self, handle: Handle) -> &Value {
        &self.values[handle.0 as usize]
    }

    /// Returns every value, in the order in which they were built.
    pub fn handles(&self) -> impl Iterator<Item = Handle> {
        (0..self.values.len() as u32).map(Handle)
    }

    /// Returns the text, if the value is one.
    pub fn text(&self, handle: Handle) -> Option<&str> {
        match self.value(handle) {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Returns the integer, if the value is one of at most 64 bits.
    pub fn int(&self, handle: Handle) -> Option<i64> {
        match self.value(handle) {
            Value::Int(int) => Some(*int),
            _ => None,
        }
    }

    /// Returns the items of a tuple or list.
    pub fn sequence(&self, handle: Handle) -> Option<&[Handle]> {
        match self.value(handle) {
            Value::Tuple(items) | Value::List(items) => Some(items),
            _ => None,
        }
    }

    /// Returns the key and value pairs of a `dict` or of an object that is one (`OrderedDict`, `defaultdict`); `None`
    /// for others.
    pub fn entries(&self, handle: Handle) -> Option<&[(Handle, Handle)]> {
        match self.value(handle) {
            Value::Dict(entries) => Some(entries),
            Value::Object(object) if self.is_dict_class(object.callable) => Some(&object.entries),
            _ => None,
        }
    }

    /// Returns the value under a text key of a `dict` or an object that is one.
    pub fn get(&self, handle: Handle, key: &str) -> Option<Handle> {
        self.entries(handle)?
            .iter()
            .rev()
            .find(|(name, _)| self.text(*name) == Some(key))
            .map(|(_, value)| *value)
    }

    /// Returns the attributes of an object: the `dict` that was its state.
    pub fn attributes(&self, handle: Handle) -> Option<&[(Handle, Handle)]> {
        match self.value(handle) {
            Value::Object(object) => self.entries(object.state?),
            _ => None,
        }
    }

    /// Returns function and arguments of a call, such as
    /// `("torch._utils", "_rebuild_tensor_v2", [..])`.
    pub fn call(&self, handle: Handle) -> Option<(&Global, &[Handle])> {
        let Value::Object(object) = self.value(handle) else {
            return None;
        };
        Some((
            self.global(object.callable)?,
            self.sequence(object.arguments)?,
        ))
    }

    /// Returns the class or function, if the value is one.
    pub fn global(&self, handle: Handle) -> Option<&Global> {
        match self.value(handle) {
            Value::Global(global) => Some(global),
            _ => None,
        }
    }

    fn is_dict_class(&self, callable: Handle) -> bool {
        self.global(callable).is_some_and(|class| {
            class.module == "collections" && matches!(&*class.name, "OrderedDict" | "defaultdict")
        })
    }
}

/// What an opcode gets wrong, without its place.
type Step<T> = Result<T, String>;

#[derive(Default)]
struct Machine<'a> {
    bytes: &'a [u8],
    position: usize,
    values: Vec<Value>,
    stack: Vec<Handle>,
    /// Heights of the stack at the open marks.
    marks: Vec<usize>,
    memo: HashMap<u32, Handle>,
}

impl<'a> Machine<'a> {
    /// Runs one opcode; returns the root at STOP.
    fn step(&mut self) -> Step<Option<Handle>> {
        let opcode = self.byte()?;
        match opcode {
            // PROTO
            0x80 => {
                let protocol = self.byte()?;
                if protocol > 5 {
                    return Err(format!("protocol {protocol} is not known"));
                }
            }
            // FRAME: a hint for buffered reading
            0x95 => {
                self.take(8)?;
            }
            b'.' => return self.pop().map(Some),

            b'(' => self.marks.push(self.stack.len()),
            b'0' => {
                self.pop()?;
            }
            b'1' => {
                self.pop_to_mark()?;
            }
            b'2' => {
                let top = self.top()?;
                self.stack.push(top);
            }

            b'N' => self.push(Value::None),
            0x88 => self.push(Value::Bool(true)),
            0x89 => self.push(Value::Bool(false)),
            b'J' => {
                let int = i32::from_le_bytes(self.array()?);
                self.push(Value::Int(int.into()));
            }
            b'K' => {
                let int = self.byte()?;
                self.push(Value::Int(int.into()));
            }
            b'M' => {
                let int = u16::from_le_bytes(self.array()?);
                self.push(Value::Int(int.into()));
            }
            0x8a => {
                let length = self.byte()?.into();
                let bytes = self.take(length)?;
                self.push(integer(bytes));
            }
            0x8b => {
                let bytes = self.sized_4()?;
                self.push(integer(bytes));
            }
            b'G' => {
                let float = f64::from_be_bytes(self.array()?);
                self.push(Value::Float(float));
            }

            // BINUNICODE, SHORT_, 8; Python 2's BINSTRING and SHORT_ hold text in what PyTorch writes
            b'X' | b'T' => {
                let bytes = self.sized_4()?;
                self.push_text(bytes)?;
            }
            0x8c | b'U' => {
                let bytes = self.sized_1()?;
                self.push_text(bytes)?;
            }
            0x8d => {
                let bytes = self.sized_8()?;
                self.push_text(bytes)?;
            }
            b'B' => {
                let bytes = self.sized_4()?;
                self.push(Value::Bytes(bytes.into()));
            }
            b'C' => {
                let bytes = self.sized_1()?;
                self.push(Value::Bytes(bytes.into()));
            }
            0x8e | 0x96 => {
                let bytes = self.sized_8()?;
                self.push(Value::Bytes(bytes.into()));
            }

            b')' => self.push(Value::Tuple(Vec::new())),
            b't' => {
                let items = self.pop_to_mark()?;
                self.push(Value::Tuple(items));
            }
            0x85..=0x87 => {
                let count = usize::from(opcode - 0x84);
                let start = self.depth(count)?;
                let items = self.stack.split_off(start);
                self.push(Value::Tuple(items));
            }
            b']' => self.push(Value::List(Vec::new())),
            b'l' => {
                let items = self.pop_to_mark()?;
                self.push(Value::List(items));
            }
            b'a' => {
                let item = self.pop()?;
                self.append(vec![item])?;
            }
            b'e' => {
                let items = self.pop_to_mark()?;
                self.append(items)?;
            }
            0x8f => self.push(Value::Set(Vec::new())),
            0x90 => {
                let items = self.pop_to_mark()?;
                self.append(items)?;
            }
            0x91 => {
                let items = self.pop_to_mark()?;
                self.push(Value::Set(items));
            }
            b'}' => self.push(Value::Dict(Vec::new())),
            b'd' => {
                let items = self.pop_to_mark()?;
                let entries = pairs(&items)?;
                self.push(Value::Dict(entries));
            }
            b's' => {
                let value = self.pop()?;
                let key = self.pop()?;
                self.set_entries(vec![(key, value)])?;
            }
            b'u' => {
                let items = self.pop_to_mark()?;
                self.set_entries(pairs(&items)?)?;
            }

            // GLOBAL, STACK_GLOBAL
            b'c' => {
                let module = self.line()?;
                let name = self.line()?;
                self.push(Value::Global(Box::new(Global { module, name })));
            }
            0x93 => {
                let name = self.pop_text()?;
                let module = self.pop_text()?;
                self.push(Value::Global(Box::new(Global { module, name })));
            }
            // REDUCE, NEWOBJ
            b'R' | 0x81 => {
                let arguments = self.pop()?;
                let callable = self.pop()?;
                self.push_object(callable, arguments);
            }
            // NEWOBJ_EX: keyword arguments are dropped, nothing that is read here depends on them
            0x92 => {
                self.pop()?;
                let arguments = self.pop()?;
                let callable = self.pop()?;
                self.push_object(callable, arguments);
            }
            b'b' => {
                let state = self.pop()?;
                match self.top_value()? {
                    Value::Object(object) => object.state = Some(state),
                    other => return Err(format!("BUILD on {}", kind(other))),
                }
            }
            b'Q' => {
                let identifier = self.pop()?;
                self.push(Value::Persistent(identifier));
            }

            // BINPUT, LONG_BINPUT, MEMOIZE
            b'q' => {
                let index = self.byte()?.into();
                self.memoize(index)?;
            }
            b'r' => {
                let index = u32::from_le_bytes(self.array()?);
                self.memoize(index)?;
            }
            0x94 => {
                let index = u32::try_from(self.memo.len()).map_err(|_| "memo overflow")?;
                self.memoize(index)?;
            }
            // BINGET, LONG_BINGET
            b'h' => {
                let index = self.byte()?.into();
                self.recall(index)?;
            }
            b'j' => {
                let index = u32::from_le_bytes(self.array()?);
                self.recall(index)?;
            }

            other => {
                return Err(format!(
                    "opcode 0x{other:02x} is not one of protocols 2 to 5"
                ));
            }
        }
        Ok(None)
    }

    fn take(&mut self, length: usize) -> Step<&'a [u8]> {
        let end = self.position.checked_add(length);
        let bytes = end
            .and_then(|end| self.bytes.get(self.position..end))
            .ok_or("it ends too early")?;
        self.position += length;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Step<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn byte(&mut self) -> Step<u8> {
        self.array().map(|[byte]| byte)
    }

    fn sized_1(&mut self) -> Step<&'a [u8]> {
        let length = self.byte()?;
        self.take(length.into())
    }

    fn sized_4(&mut self) -> Step<&'a [u8]> {
        let length = u32::from_le_bytes(self.array()?);
        self.take(usize::try_from(length).map_err(|_| "a length beyond memory")?)
    }

    fn sized_8(&mut self) -> Step<&'a [u8]> {
        let length = u64::from_le_bytes(self.array()?);
        self.take(usize::try_from(length).map_err(|_| "a length beyond memory")?)
    }

    fn line(&mut self) -> Step<String> {
        let rest = self.bytes.get(self.position..).unwrap_or_default();
        let length = rest
            .iter()
            .position(|&byte| byte == b'\n')
            .ok_or("it ends too early")?;
        let line = text(self.take(length)?)?.to_owned();
        self.take(1)?;
        Ok(line)
    }

    fn push(&mut self, value: Value) {
        // The number of values stays below MAX_OPERATIONS, far below u32::MAX.
        let handle = Handle(self.values.len() as u32);
        self.values.push(value);
        self.stack.push(handle);
    }

    fn push_text(&mut self, bytes: &[u8]) -> Step<()> {
        self.push(Value::Text(text(bytes)?.into()));
        Ok(())
    }

    fn push_object(&mut self, callable: Handle, arguments: Handle) {
        self.push(Value::Object(Box::new(Object {
            callable,
            arguments,
            state: None,
            entries: Vec::new(),
            elements: Vec::new(),
        })));
    }

    /// Returns where the topmost `count` values above the last mark start.
    fn depth(&self, count: usize) -> Step<usize> {
        let floor = self.marks.last().copied().unwrap_or(0);
        let start = self.stack.len().checked_sub(count);
        start
            .filter(|start| *start >= floor)
            .ok_or_else(|| "an operand is missing".into())
    }

    fn top(&self) -> Step<Handle> {
        Ok(self.stack[self.depth(1)?])
    }

    fn top_value(&mut self) -> Step<&mut Value> {
        let top = self.top()?;
        Ok(&mut self.values[top.0 as usize])
    }

    fn pop(&mut self) -> Step<Handle> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    fn pop_text(&mut self) -> Step<String> {
        let top = self.pop()?;
        match &self.values[top.0 as usize] {
            Value::Text(text) => Ok(text.to_string()),
            other => Err(format!("{} where a name belongs", kind(other))),
        }
    }

    fn pop_to_mark(&mut self) -> Step<Vec<Handle>> {
        let mark = self.marks.pop().ok_or("a mark is missing")?;
        Ok(self.stack.split_off(mark))
    }

    fn append(&mut self, items: Vec<Handle>) -> Step<()> {
        match self.top_value()? {
            Value::List(list) | Value::Set(list) => list.extend(items),
            Value::Object(object) => object.elements.extend(items),
            other => return Err(format!("items for {}", kind(other))),
        }
        Ok(())
    }

    fn set_entries(&mut self, entries: Vec<(Handle, Handle)>) -> Step<()> {
        match self.top_value()? {
            Value::Dict(dict) => dict.extend(entries),
            Value::Object(object) => object.entries.extend(entries),
            other => return Err(format!("entries for {}", kind(other))),
        }
        Ok(())
    }

    fn memoize(&mut self, index: u32) -> Step<()> {
        let top = self.top()?;
        self.memo.insert(index, top);
        Ok(())
    }

    fn recall(&mut self, index: u32) -> Step<()> {
        let value = *self
            .memo
            .get(&index)
            .ok_or_else(|| format!("nothing was memoised as {index}"))?;
        self.stack.push(value);
        Ok(())
    }
}

fn text(bytes: &[u8]) -> Step<&str> {
    std::str::from_utf8(bytes).map_err(|_| "a text that is not UTF-8".into())
}

/// Reads two's complement, little-endian, of any length.
fn integer(bytes: &[u8]) -> Value {
    if bytes.len() > 8 {
        return Value::LongInt(bytes.into());
    }
    let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
    let mut extended = [if negative { 0xff } else { 0 }; 8];
    extended[..bytes.len()].copy_from_slice(bytes);
    Value::Int(i64::from_le_bytes(extended))
}

fn pairs(items: &[Handle]) -> Step<Vec<(Handle, Handle)>> {
    let (pairs, rest) = items.as_chunks::<2>();
    if !rest.is_empty() {
        return Err("a key without a value".into());
    }
    Ok(pairs.iter().map(|[key, value]| (*key, *value)).collect())
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::None => "None",
        Value::Bool(_) => "a bool",
        Value::Int(_) | Value::LongInt(_) => "an integer",
        Value::Float(_) => "a float",
        Value::Text(_) => "a text",
        Value::Bytes(_) => "bytes",
        Value::Tuple(_) => "a tuple",
        Value::List(_) => "a list",
        Value::Set(_) => "a set",
        Value::Dict(_) => "a dict",
        Value::Global(_) => "a global",
        Value::Object(_) => "an object",
        Value::Persistent(_) => "a persistent value",
    }
}
