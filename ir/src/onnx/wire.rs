//! A walk over the wire format before anything is parsed: does it look like an ONNX model at all?
//!
//! Protocol buffers accept nearly any bytes: what they do not know they keep, groups nested as deep as the file is
//! long. This walk visits every field of every message that ONNX defines, skips all data, allocates next to nothing,
//! and refuses what no writer of ONNX makes, so that the parser behind it only meets sound files. Where it stops, it
//! can say what the file looks like instead.

use std::ops::Range;

use super::error::Fault;
use super::source::Bytes;
use crate::limits::{Exceeded, LimitName, Limits};

/// The messages that ONNX defines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Message {
    Model,
    Graph,
    Node,
    Attribute,
    Tensor,
    SparseTensor,
    ValueInfo,
    Type,
    TypeOfTensor,
    TypeOfContainer,
    Shape,
    Function,
    Training,
    Annotation,
    /// Messages that hold no other message: dims, string pairs, operator set ids, segments.
    Leaf,
}

impl Message {
    /// The message in a field, by the field's number in `onnx.proto`; `None` for fields that hold plain data.
    fn field(self, number: u64) -> Option<Message> {
        use Message::*;
        Some(match (self, number) {
            (Model, 7) => Graph,
            (Model, 8 | 14) => Leaf,
            (Model, 20) => Training,
            (Model, 25) => Function,
            (Training, 1 | 2) => Graph,
            (Training, 3 | 4) => Leaf,
            (Graph, 1) => Node,
            (Graph, 5) => Tensor,
            (Graph, 11..=13) => ValueInfo,
            (Graph, 14) => Annotation,
            (Graph, 15) => SparseTensor,
            (Graph, 16) => Leaf,
            (Annotation, 2) => Leaf,
            (Node, 5) => Attribute,
            (Node, 9) => Leaf,
            (Attribute, 5 | 10) => Tensor,
            (Attribute, 6 | 11) => Graph,
            (Attribute, 14 | 15) => Type,
            (Attribute, 22 | 23) => SparseTensor,
            (Tensor, 3 | 13 | 16) => Leaf,
            (SparseTensor, 1 | 2) => Tensor,
            (ValueInfo, 2) => Type,
            (ValueInfo, 4) => Leaf,
            (Type, 1 | 8) => TypeOfTensor,
            (Type, 4 | 5 | 9) => TypeOfContainer,
            (TypeOfTensor, 2) => Shape,
            (TypeOfContainer, 1 | 2) => Type,
            (Shape, 1) => Leaf,
            (Function, 7) => Node,
            (Function, 9 | 14) => Leaf,
            (Function, 11) => Attribute,
            (Function, 12) => ValueInfo,
            _ => return None,
        })
    }

    /// Whether a field may be there any number of times with a text or bytes each time, which the parser keeps apart.
    fn holds_texts(self, number: u64) -> bool {
        use Message::*;
        matches!(
            (self, number),
            (Node, 1 | 2) | (Attribute, 9) | (Tensor, 6) | (Function, 4..=6) | (Model | Graph, 10)
        )
    }
}

/// What the walk counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Census {
    /// Nodes of all graphs and functions.
    pub nodes: usize,
    /// All messages, and all fields of text.
    pub parts: usize,
}

/// Walks over a model. The error says what the bytes look like, or which limit they pass.
pub(super) fn scan(bytes: &mut impl Bytes, limits: &Limits) -> Result<Census, Fault> {
    walk(bytes, Message::Model, limits)
}

/// Walks over a tensor that is a file by itself.
pub(super) fn scan_tensor(mut bytes: &[u8], limits: &Limits) -> Result<(), Fault> {
    walk(&mut bytes, Message::Tensor, limits).map(drop)
}

fn walk(bytes: &mut impl Bytes, message: Message, limits: &Limits) -> Result<Census, Fault> {
    let census = count(bytes, message, limits.depth)?;
    for (what, number, limit, name) in [
        ("nodes", census.nodes, limits.nodes, LimitName::Nodes),
        ("nodes, names, attributes and other parts", census.parts, limits.parts, LimitName::Parts),
    ] {
        if number > limit {
            let what = format!("the model with {number} {what}");
            return Err(Exceeded { what, limit: limit as u64, name }.into());
        }
    }
    Ok(census)
}

fn count(bytes: &mut impl Bytes, message: Message, depth: usize) -> Result<Census, Fault> {
    let len = bytes.len();
    if let Some(look) = looks_like(bytes.peek(0, HEAD), len) {
        return Err(Fault::NotOnnx(look));
    }
    let mut census = Census::default();
    let mut graphs = 0;
    let mut at = 0usize;
    // Messages that are open: kind and end.
    let mut open: Vec<(Message, usize)> = vec![(message, len)];
    while let Some(&(message, end)) = open.last() {
        if at == end {
            open.pop();
            continue;
        }
        let start = at;
        let key = varint(bytes, &mut at, end).ok_or_else(|| broken(start, "a field's key"))?;
        let (number, wire_type) = (key >> 3, key & 7);
        if number == 0 || number > (1 << 29) - 1 {
            return Err(broken(start, "a field's number"));
        }
        match wire_type {
            0 => {
                varint(bytes, &mut at, end).ok_or_else(|| broken(start, "a number"))?;
            }
            1 => at = advance(at, 8, end).ok_or_else(|| truncated(start, 8, end - at))?,
            5 => at = advance(at, 4, end).ok_or_else(|| truncated(start, 4, end - at))?,
            2 => {
                let length = varint(bytes, &mut at, end).ok_or_else(|| broken(start, "a length"))?;
                let stop = advance(at, length, end).ok_or_else(|| truncated(start, length, end - at))?;
                match message.field(number) {
                    Some(inner) => {
                        census.nodes += usize::from(inner == Message::Node);
                        census.parts += 1;
                        graphs += usize::from((message, number) == (Message::Model, 7));
                        if graphs > 1 {
                            // Parsers differ in which one counts, so nobody can say what the model is.
                            return Err(Fault::NotOnnx("it has two graphs".into()));
                        }
                        if open.len() >= depth {
                            let what = format!("the nesting of messages at byte {start}");
                            let name = LimitName::Depth;
                            return Err(Exceeded { what, limit: depth as u64, name }.into());
                        }
                        open.push((inner, stop));
                    }
                    None => {
                        census.parts += usize::from(message.holds_texts(number));
                        at = stop;
                    }
                }
            }
            _ => return Err(broken(start, "a field's wire type")),
        }
    }
    Ok(census)
}

/// A field of a message.
pub(super) struct Field {
    number: u64,
    /// The whole field, with its key.
    pub all: Range<usize>,
    /// What a field of bytes holds.
    body: Option<Range<usize>>,
}

impl Field {
    /// The bytes that it holds, if it is field `number` and holds bytes.
    pub(super) fn body(&self, number: u64) -> Option<Range<usize>> {
        self.body.clone().filter(|_| self.number == number)
    }
}

/// Takes the first field from the message at `place` in bytes that [`scan`] has passed. `None` where there is none.
pub(super) fn next_field(bytes: &mut impl Bytes, place: &mut Range<usize>) -> Option<Field> {
    let (start, end) = (place.start, place.end);
    let mut at = start;
    let key = varint(bytes, &mut at, end)?;
    let mut body = None;
    match key & 7 {
        0 => drop(varint(bytes, &mut at, end)?),
        1 => at = advance(at, 8, end)?,
        5 => at = advance(at, 4, end)?,
        2 => {
            let length = varint(bytes, &mut at, end)?;
            let stop = advance(at, length, end)?;
            body = Some(at..stop);
            at = stop;
        }
        _ => return None,
    }
    place.start = at;
    Some(Field { number: key >> 3, all: start..at, body })
}

fn advance(at: usize, by: u64, end: usize) -> Option<usize> {
    let to = at.checked_add(usize::try_from(by).ok()?)?;
    (to <= end).then_some(to)
}

/// A number of up to ten bytes, seven bits in each, which ends before `end`.
fn varint(bytes: &mut impl Bytes, at: &mut usize, end: usize) -> Option<u64> {
    let mut value = 0u64;
    for (i, byte) in bytes.peek(*at, end.checked_sub(*at)?.min(10)).iter().enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            *at += i + 1;
            return Some(value);
        }
    }
    None
}

fn broken(at: usize, what: &str) -> Fault {
    Fault::NotOnnx(format!(
        "{what} at byte {at} makes no sense for a protocol buffer (damaged, truncated, or another format)"
    ))
}

fn truncated(at: usize, wanted: u64, left: usize) -> Fault {
    Fault::NotOnnx(format!(
        "the field at byte {at} needs {wanted} bytes, {left} are left (truncated, damaged, or another format)"
    ))
}

/// Formats that people mistake for ONNX.
const SIGNATURES: [(usize, &[u8], &str); 8] = [
    (0, b"PK\x03\x04", "a zip archive, as PyTorch and others write; export the network to ONNX first"),
    (0, b"\x89HDF", "an HDF5 file, as Keras writes; export the network to ONNX first"),
    (0, b"\x80\x02", "a Python pickle, as PyTorch writes; export the network to ONNX first"),
    (0, b"\x1f\x8b", "a gzip archive; unpack it first"),
    (0, b"\x7fELF", "an ELF file; if it is a compiled model, run it instead"),
    (0, b"\x93NUMPY", "a NumPy array"),
    (4, b"TFL3", "a TensorFlow Lite model; convert it to ONNX first"),
    (4, b"ORTM", "an onnxruntime model (.ort); compile the .onnx file that it was made from"),
];

/// Bytes that tell what a file looks like.
const HEAD: usize = 256;

/// What a file of `len` bytes that starts with `head` looks like.
fn looks_like(head: &[u8], len: usize) -> Option<String> {
    if len == 0 {
        return Some("the file is empty".into());
    }
    for (at, signature, look) in SIGNATURES {
        if head.get(at..).is_some_and(|b| b.starts_with(signature)) {
            return Some(format!("it is {look}"));
        }
    }
    // A character may be cut at the end of the head.
    let text = match std::str::from_utf8(head) {
        Ok(text) => text,
        Err(e) if e.error_len().is_none() && len > head.len() => {
            std::str::from_utf8(&head[..e.valid_up_to()]).unwrap_or_default()
        }
        Err(_) => return None,
    };
    let printable = |c: char| !c.is_control() || matches!(c, '\n' | '\r' | '\t');
    if text.is_empty() || !text.chars().all(printable) {
        return None;
    }
    let line: String = text.lines().next().unwrap_or_default().chars().take(40).collect();
    let what = if text.starts_with("version https://git-lfs") {
        "a Git LFS pointer; fetch the file itself with git lfs pull"
    } else {
        "a text file"
    };
    Some(format!("it is {what} that starts with \"{}\"", line.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(mut bytes: &[u8], limits: &Limits) -> Result<Census, Fault> {
        super::scan(&mut bytes, limits)
    }

    fn refusal(bytes: &[u8]) -> String {
        scan(bytes, &Limits::default()).unwrap_err().to_string()
    }

    /// A length-delimited field.
    fn field(number: u8, body: &[u8]) -> Vec<u8> {
        let mut bytes = vec![number << 3 | 2];
        let mut length = body.len();
        while length >= 0x80 {
            bytes.push(length as u8 | 0x80);
            length >>= 7;
        }
        bytes.push(length as u8);
        bytes.extend_from_slice(body);
        bytes
    }

    #[test]
    fn nodes_are_counted_at_every_level() {
        let inner = field(1, &[]);
        let attribute = field(6, &inner);
        let node = field(5, &attribute);
        let graph = [field(1, &node), field(1, &[])].concat();
        let census = scan(&field(7, &graph), &Limits::default()).unwrap();
        assert_eq!(census, Census { nodes: 3, parts: 6 });
    }

    #[test]
    fn groups_are_refused_before_the_parser_sees_them() {
        let bomb = vec![0x0b; 100_000];
        let error = refusal(&bomb);
        assert!(error.contains("a field's wire type at byte 0 makes no sense"), "{error}");
    }

    #[test]
    fn nesting_beyond_the_limit_is_refused() {
        let mut graph = Vec::new();
        for _ in 0..40 {
            graph = field(1, &field(5, &field(6, &graph)));
        }
        let error = refusal(&field(7, &graph));
        assert!(error.contains(" is over the limit of 64 (depth)"), "{error}");
        assert!(scan(&field(7, &graph), &Limits { depth: 200, ..Limits::default() }).is_ok());
    }

    #[test]
    fn parts_of_two_bytes_are_counted() {
        let attributes = field(5, &[]).repeat(30);
        let names = field(1, &[]).repeat(30);
        let model = field(7, &field(1, &[attributes, names].concat()));
        let error = scan(&model, &Limits { parts: 61, ..Limits::default() }).unwrap_err().to_string();
        assert!(error.contains("62 nodes, names, attributes and other parts"), "{error}");
        assert!(error.contains("Limits::parts"), "{error}");
        assert!(scan(&model, &Limits { parts: 62, ..Limits::default() }).is_ok());
    }

    #[test]
    fn a_field_longer_than_its_message_is_called_truncated() {
        let model = field(7, &field(1, &[0; 40]));
        let error = refusal(&model[..20]);
        assert_eq!(
            error,
            "not an ONNX model: the field at byte 0 needs 42 bytes, 18 are left (truncated, damaged, or another format)"
        );
    }

    #[test]
    fn other_formats_are_called_by_their_names() {
        let look = refusal;
        assert_eq!(look(b""), "not an ONNX model: the file is empty");
        assert_eq!(
            look(b"import torch\nx = 1\n"),
            "not an ONNX model: it is a text file that starts with \"import torch\""
        );
        assert!(look(b"version https://git-lfs.github.com/spec/v1\n").contains("git lfs pull"));
        assert!(look(b"PK\x03\x04rest").contains("zip archive"));
        assert!(look(b"\x1c\0\0\0TFL3").contains("TensorFlow Lite"));
    }
}
