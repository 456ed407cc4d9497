//! Reads the pickle of a PyTorch checkpoint without running anything.
//!
//! A pickle is a program for a small stack machine, and Python lets it call any function. This machine knows the
//! instructions that build values, and calls nothing: the few functions that a checkpoint needs (those that put a
//! tensor together) are done here, a short list of harmless classes stands for itself, and any other name is refused.
//! Instructions and their layout: CPython's `Lib/pickletools.py`.

use std::collections::{BTreeMap, BTreeSet};

use super::Dtype;
use super::pytorch::storage_dtype;

/// A tensor, as the pickle describes it; not checked against the storage yet.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    pub storage: Storage,
    /// Of the first number in the storage, in numbers.
    pub offset: usize,
    pub shape: Vec<usize>,
    /// In numbers.
    pub strides: Vec<usize>,
}

/// A file of the archive that holds numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Storage {
    pub key: String,
    pub dtype: Dtype,
}

/// Most values that a pickle may make.
const MAX_VALUES: usize = 4_000_000;
/// How deep dictionaries may lie in each other, how long a key may be, and how many tensors there may be.
const MAX_DEPTH: usize = 16;
const MAX_KEY: usize = 256;
const MAX_TENSORS: usize = 100_000;

/// Names that may stand in a checkpoint beside tensors: classes that only hold values. None is ever made; their
/// instances are read over.
const HARMLESS: [&str; 24] = [
    "argparse Namespace",
    "collections defaultdict",
    "collections Counter",
    "collections deque",
    "builtins set",
    "builtins frozenset",
    "builtins dict",
    "builtins list",
    "builtins bytearray",
    "builtins complex",
    "builtins slice",
    "__builtin__ set",
    "_codecs encode",
    "datetime datetime",
    "numpy dtype",
    "numpy ndarray",
    "numpy.core.multiarray _reconstruct",
    "numpy.core.multiarray scalar",
    "numpy._core.multiarray _reconstruct",
    "numpy._core.multiarray scalar",
    "pathlib PosixPath",
    "pathlib PurePosixPath",
    "torch device",
    "torch Size",
];

/// All tensors in the dictionaries of a pickle, by their keys joined with dots.
///
/// # Errors
/// A sentence, with the byte at which reading stopped.
pub fn read(bytes: &[u8]) -> Result<Vec<(String, Tensor)>, String> {
    let mut machine = Machine { bytes, ..Machine::default() };
    let root = machine.run().map_err(|problem| format!("its pickle at byte {}: {problem}", machine.at))?;
    let mut found = Vec::new();
    let mut seen = BTreeSet::new();
    machine.collect(root, String::new(), 0, &mut seen, &mut found)?;
    Ok(found)
}

/// A value by its place among all that were made.
type Id = usize;

#[derive(Clone, Debug)]
enum Value {
    None,
    Int(i64),
    Text(String),
    /// A list or a tuple.
    Sequence(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    /// Module and name, a space between.
    Global(String),
    Storage(Storage),
    Tensor(Tensor),
    /// A value that no tensor depends on.
    Opaque,
}

#[derive(Default)]
struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    values: Vec<Value>,
    stack: Vec<Id>,
    marks: Vec<usize>,
    memo: BTreeMap<u32, Id>,
}

impl Machine<'_> {
    /// Runs to the end, and returns the value that is left.
    fn run(&mut self) -> Result<Id, String> {
        loop {
            let [instruction] = self.take()?;
            match instruction {
                b'.' => return self.pop(),
                // What stands before the values: the protocol's number, and lengths of parts.
                0x80 => drop(self.take::<1>()?),
                0x95 => drop(self.take::<8>()?),
                b'(' => self.marks.push(self.stack.len()),
                b'0' => drop(self.pop()?),
                b'1' => drop(self.pop_mark()?),
                b'2' => {
                    let top = *self.stack.last().ok_or(UNDERFLOW)?;
                    self.stack.push(top);
                }
                b'N' => self.push(Value::None)?,
                // True and false, floats.
                0x88 | 0x89 => self.push(Value::Opaque)?,
                b'G' => {
                    self.take::<8>()?;
                    self.push(Value::Opaque)?;
                }
                b'K' => {
                    let [value] = self.take()?;
                    self.push(Value::Int(value.into()))?;
                }
                b'M' => {
                    let value = u16::from_le_bytes(self.take()?);
                    self.push(Value::Int(value.into()))?;
                }
                b'J' => {
                    let value = i32::from_le_bytes(self.take()?);
                    self.push(Value::Int(value.into()))?;
                }
                0x8a => {
                    let [length] = self.take()?;
                    let bytes = self.take_many(length.into())?;
                    let value = long(bytes);
                    self.push(value)?;
                }
                0x8b => {
                    let length = u32::from_le_bytes(self.take()?);
                    self.take_many(length.into())?;
                    self.push(Value::Opaque)?;
                }
                // Texts.
                b'X' | b'T' => {
                    let length = u32::from_le_bytes(self.take()?);
                    self.text(length.into())?;
                }
                0x8c | b'U' => {
                    let [length] = self.take()?;
                    self.text(length.into())?;
                }
                0x8d => {
                    let length = u64::from_le_bytes(self.take()?);
                    self.text(length)?;
                }
                // Bytes.
                b'C' => {
                    let [length] = self.take()?;
                    self.skip(length.into())?;
                }
                b'B' => {
                    let length = u32::from_le_bytes(self.take()?);
                    self.skip(length.into())?;
                }
                0x8e | 0x96 => {
                    let length = u64::from_le_bytes(self.take()?);
                    self.skip(length)?;
                }
                // Lists and tuples.
                b']' | b')' => self.push(Value::Sequence(Vec::new()))?,
                b'l' | b't' => {
                    let items = self.pop_mark()?;
                    self.push(Value::Sequence(items))?;
                }
                0x85..=0x87 => {
                    let count = usize::from(instruction - 0x84);
                    let items = self.stack.split_off(self.stack.len().checked_sub(count).ok_or(UNDERFLOW)?);
                    self.push(Value::Sequence(items))?;
                }
                b'a' => {
                    let item = self.pop()?;
                    self.append(vec![item])?;
                }
                b'e' => {
                    let items = self.pop_mark()?;
                    self.append(items)?;
                }
                // Sets.
                0x8f => self.push(Value::Opaque)?,
                0x90 => drop(self.pop_mark()?),
                0x91 => {
                    self.pop_mark()?;
                    self.push(Value::Opaque)?;
                }
                // Dictionaries.
                b'}' => self.push(Value::Dict(Vec::new()))?,
                b'd' => {
                    let items = self.pop_mark()?;
                    self.push(Value::Dict(pairs(&items)))?;
                }
                b's' => {
                    let value = self.pop()?;
                    let key = self.pop()?;
                    self.set(vec![(key, value)])?;
                }
                b'u' => {
                    let items = self.pop_mark()?;
                    self.set(pairs(&items))?;
                }
                // Names, and what is made of them.
                b'c' => {
                    let (module, name) = (self.line()?, self.line()?);
                    self.global(&module, &name)?;
                }
                0x93 => {
                    let (name, module) = (self.pop()?, self.pop()?);
                    match (&self.values[module], &self.values[name]) {
                        (Value::Text(module), Value::Text(name)) => {
                            let (module, name) = (module.clone(), name.clone());
                            self.global(&module, &name)?;
                        }
                        _ => return Err("a name is no text".into()),
                    }
                }
                b'R' | 0x81 => {
                    let (arguments, callee) = (self.pop()?, self.pop()?);
                    let made = self.reduce(callee, arguments)?;
                    self.push(made)?;
                }
                0x92 => {
                    self.pop()?;
                    self.pop()?;
                    self.pop()?;
                    self.push(Value::Opaque)?;
                }
                // The state of an instance: attributes of what is read over, or of a dictionary.
                b'b' => drop(self.pop()?),
                b'Q' => {
                    let id = self.pop()?;
                    let storage = self.storage(id)?;
                    self.push(storage)?;
                }
                // What is remembered for later.
                b'q' => {
                    let [key] = self.take()?;
                    self.remember(key.into())?;
                }
                b'r' => {
                    let key = u32::from_le_bytes(self.take()?);
                    self.remember(key)?;
                }
                0x94 => self.remember(self.memo.len() as u32)?,
                b'h' => {
                    let [key] = self.take()?;
                    self.recall(key.into())?;
                }
                b'j' => {
                    let key = u32::from_le_bytes(self.take()?);
                    self.recall(key)?;
                }
                other => return Err(format!("the instruction {other:#04x} is none that torch.save writes")),
            }
        }
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let bytes = self.bytes.get(self.at..).and_then(|rest| rest.first_chunk()).ok_or("it ends in the middle")?;
        self.at += N;
        Ok(*bytes)
    }

    fn take_many(&mut self, length: u64) -> Result<&[u8], String> {
        let end = usize::try_from(length).ok().and_then(|length| self.at.checked_add(length));
        let bytes = end.and_then(|end| self.bytes.get(self.at..end)).ok_or("it ends in the middle")?;
        self.at += bytes.len();
        Ok(bytes)
    }

    /// The rest of a line.
    fn line(&mut self) -> Result<String, String> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let length = rest.iter().position(|byte| *byte == b'\n').ok_or("it ends in the middle")?;
        let line = String::from_utf8_lossy(&rest[..length]).into_owned();
        self.at += length + 1;
        Ok(line)
    }

    fn text(&mut self, length: u64) -> Result<(), String> {
        let text = String::from_utf8_lossy(self.take_many(length)?).into_owned();
        self.push(Value::Text(text))
    }

    fn skip(&mut self, length: u64) -> Result<(), String> {
        self.take_many(length)?;
        self.push(Value::Opaque)
    }

    fn push(&mut self, value: Value) -> Result<(), String> {
        if self.values.len() >= MAX_VALUES {
            return Err(format!("it makes more than {MAX_VALUES} values"));
        }
        self.stack.push(self.values.len());
        self.values.push(value);
        Ok(())
    }

    /// The topmost value; not past a mark, which stands for the start of a list.
    fn pop(&mut self) -> Result<Id, String> {
        if self.marks.last() == Some(&self.stack.len()) {
            return Err(UNDERFLOW.into());
        }
        self.stack.pop().ok_or_else(|| UNDERFLOW.into())
    }

    /// What lies above the last mark.
    fn pop_mark(&mut self) -> Result<Vec<Id>, String> {
        let mark = self.marks.pop().filter(|mark| *mark <= self.stack.len()).ok_or(UNDERFLOW)?;
        Ok(self.stack.split_off(mark))
    }

    fn append(&mut self, items: Vec<Id>) -> Result<(), String> {
        let list = *self.stack.last().ok_or(UNDERFLOW)?;
        match &mut self.values[list] {
            Value::Sequence(list) => list.extend(items),
            Value::Opaque => {}
            _ => return Err("it appends to what is no list".into()),
        }
        Ok(())
    }

    fn set(&mut self, items: Vec<(Id, Id)>) -> Result<(), String> {
        let dict = *self.stack.last().ok_or(UNDERFLOW)?;
        match &mut self.values[dict] {
            Value::Dict(dict) => dict.extend(items),
            Value::Opaque => {}
            _ => return Err("it sets a key of what is no dictionary".into()),
        }
        Ok(())
    }

    fn remember(&mut self, key: u32) -> Result<(), String> {
        let top = *self.stack.last().ok_or(UNDERFLOW)?;
        self.memo.insert(key, top);
        Ok(())
    }

    fn recall(&mut self, key: u32) -> Result<(), String> {
        let value = *self.memo.get(&key).ok_or("it recalls what it never stored")?;
        self.stack.push(value);
        Ok(())
    }

    fn global(&mut self, module: &str, name: &str) -> Result<(), String> {
        let full = format!("{module} {name}");
        let torch_type = module == "torch" && (storage_dtype(name).is_some() || is_dtype(name));
        let known = Rebuild::of(&full).is_some() || torch_type || HARMLESS.contains(&&full[..]);
        if !known {
            let name: String = format!("{module}.{name}").chars().filter(|c| !c.is_control()).take(80).collect();
            return Err(format!(
                "it wants `{name}`, which no checkpoint needs: nothing of it was run, and it is refused"
            ));
        }
        self.push(Value::Global(full))
    }

    /// What a call would make.
    fn reduce(&mut self, callee: Id, arguments: Id) -> Result<Value, String> {
        let Value::Global(name) = &self.values[callee] else {
            return Err("it calls what is no name".into());
        };
        let Some(rebuild) = Rebuild::of(name) else {
            return Ok(Value::Opaque);
        };
        let Value::Sequence(arguments) = &self.values[arguments] else {
            return Err("the arguments of a call are no tuple".into());
        };
        let wrong = || format!("the arguments of `{}` are not as torch.save writes them", name.replace(' ', "."));
        match (rebuild, &arguments[..]) {
            (Rebuild::Dict, []) => Ok(Value::Dict(Vec::new())),
            (Rebuild::Dict, [items]) => match &self.values[*items] {
                Value::Sequence(items) => {
                    let pair = |id: &Id| match &self.values[*id] {
                        Value::Sequence(pair) if pair.len() == 2 => Some((pair[0], pair[1])),
                        _ => None,
                    };
                    items.iter().map(pair).collect::<Option<_>>().map(Value::Dict).ok_or_else(wrong)
                }
                Value::Dict(items) => Ok(Value::Dict(items.clone())),
                _ => Err(wrong()),
            },
            (Rebuild::Parameter, [data, ..]) => match &self.values[*data] {
                Value::Tensor(tensor) => Ok(Value::Tensor(tensor.clone())),
                _ => Err(wrong()),
            },
            (Rebuild::Tensor, [storage, offset, shape, strides, ..]) => {
                let tensor = match &self.values[*storage] {
                    Value::Storage(storage) => {
                        let (offset, shape, strides) = (self.size(*offset), self.sizes(*shape), self.sizes(*strides));
                        offset.zip(shape).zip(strides).map(|((offset, shape), strides)| Tensor {
                            storage: storage.clone(),
                            offset,
                            shape,
                            strides,
                        })
                    }
                    _ => None,
                };
                let tensor = tensor.filter(|tensor| tensor.shape.len() == tensor.strides.len());
                tensor.map(Value::Tensor).ok_or_else(wrong)
            }
            _ => Err(wrong()),
        }
    }

    fn size(&self, id: Id) -> Option<usize> {
        match self.values[id] {
            Value::Int(size) => usize::try_from(size).ok(),
            _ => None,
        }
    }

    fn sizes(&self, id: Id) -> Option<Vec<usize>> {
        match &self.values[id] {
            Value::Sequence(items) if items.len() <= 8 => items.iter().map(|item| self.size(*item)).collect(),
            _ => None,
        }
    }

    /// `("storage", type, key, device, length)`
    fn storage(&self, id: Id) -> Result<Value, String> {
        let Value::Sequence(parts) = &self.values[id] else {
            return Err("a storage is not described by a tuple".into());
        };
        let mut parts = parts.iter().map(|part| &self.values[*part]);
        match (parts.next(), parts.next(), parts.next()) {
            (Some(Value::Text(kind)), Some(Value::Global(class)), Some(Value::Text(key))) if kind == "storage" => {
                let class = class.rsplit(' ').next().unwrap_or_default();
                let dtype = storage_dtype(class).ok_or_else(|| format!("storages of type {class} are not read"))?;
                Ok(Value::Storage(Storage { key: key.clone(), dtype }))
            }
            _ => Err("a storage is not described as torch.save does it".into()),
        }
    }

    /// Tensors in `id` and in the dictionaries inside it, `name` before their keys.
    fn collect(
        &self,
        id: Id,
        name: String,
        depth: usize,
        seen: &mut BTreeSet<Id>,
        found: &mut Vec<(String, Tensor)>,
    ) -> Result<(), String> {
        match &self.values[id] {
            Value::Tensor(_) if found.len() >= MAX_TENSORS => {
                return Err(format!("it holds more than {MAX_TENSORS} tensors"));
            }
            Value::Tensor(tensor) => found.push((name, tensor.clone())),
            // A dictionary that is there twice, or holds itself, is read once.
            Value::Dict(items) if depth < MAX_DEPTH && seen.insert(id) => {
                for (key, value) in items {
                    let Value::Text(key) = &self.values[*key] else {
                        continue;
                    };
                    if key.len() > MAX_KEY {
                        return Err(format!("it has a name of {} letters", key.len()));
                    }
                    let dot = if name.is_empty() { "" } else { "." };
                    self.collect(*value, format!("{name}{dot}{key}"), depth + 1, seen, found)?;
                }
            }
            _ => {}
        }
        Ok(())
    }
}

const UNDERFLOW: &str = "it takes what was never put there";

/// What is put together here in the place of a call.
#[derive(Clone, Copy)]
enum Rebuild {
    Dict,
    Tensor,
    Parameter,
}

impl Rebuild {
    fn of(name: &str) -> Option<Rebuild> {
        Some(match name {
            "collections OrderedDict" => Rebuild::Dict,
            "torch._utils _rebuild_tensor" | "torch._utils _rebuild_tensor_v2" => Rebuild::Tensor,
            "torch._utils _rebuild_parameter" | "torch._utils _rebuild_parameter_with_state" => Rebuild::Parameter,
            _ => return None,
        })
    }
}

/// Whether a name in `torch` is that of a number's type.
fn is_dtype(name: &str) -> bool {
    ["float", "bfloat", "int", "uint"]
        .iter()
        .any(|kind| name.strip_prefix(kind).is_some_and(|bits| ["8", "16", "32", "64"].contains(&bits)))
        || name == "bool"
}

/// Keys and values that follow each other.
fn pairs(items: &[Id]) -> Vec<(Id, Id)> {
    items.as_chunks::<2>().0.iter().map(|[key, value]| (*key, *value)).collect()
}

/// An integer in two's complement, lowest byte first; what does not fit is no size of a tensor.
fn long(bytes: &[u8]) -> Value {
    if bytes.len() > 8 {
        return Value::Opaque;
    }
    let sign = if bytes.last().is_some_and(|byte| *byte >= 0x80) { 0xff } else { 0 };
    let mut all = [sign; 8];
    all[..bytes.len()].copy_from_slice(bytes);
    Value::Int(i64::from_le_bytes(all))
}
