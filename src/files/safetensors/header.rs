//! The JSON header of a `.safetensors` file, in its own order, no name occurring twice.
//!
//! What the entries say is checked by the archive; this is only their text.

use std::collections::HashSet;
use std::fmt;
use std::marker::PhantomData;

use indexmap::IndexMap;
use safetensors::Dtype;
use safetensors::tensor::TensorInfo;
use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::tensor::{DataView, TensorView};

use super::{EntryError, LENGTH_BYTES, MAX_HEADER_BYTES, Metadata, SafetensorsError, shown};

/// The name under which the header keeps what is not a tensor.
const METADATA_KEY: &str = "__metadata__";

pub(super) fn parse_header(bytes: &[u8]) -> Result<Header, SafetensorsError> {
    let invalid = |reason: String| SafetensorsError::Header { reason };
    if bytes.first() != Some(&b'{') {
        return Err(invalid("it does not start with `{`".to_owned()));
    }
    let text = std::str::from_utf8(bytes).map_err(|e| invalid(e.to_string()))?;
    serde_json::from_str(text).map_err(|e| invalid(e.to_string()))
}

/// The JSON header, in its own order.
pub(super) struct Header {
    pub(super) tensors: IndexMap<String, TensorInfo>,
    pub(super) metadata: Metadata,
}

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct HeaderVisitor;

        impl<'de> Visitor<'de> for HeaderVisitor {
            type Value = Header;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors by name")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
                let mut header = Header { tensors: IndexMap::new(), metadata: Metadata::new() };
                let mut has_metadata = false;
                while let Some(name) = map.next_key::<String>()? {
                    let twice = || de::Error::custom(format!("{} occurs twice", shown(&name)));
                    let named = |e: A::Error| de::Error::custom(format!("{}: {e}", shown(&name)));
                    if name == METADATA_KEY {
                        if std::mem::replace(&mut has_metadata, true) {
                            return Err(twice());
                        }
                        header.metadata = map.next_value::<Unique<String>>().map_err(named)?.0;
                    } else if header.tensors.contains_key(&name) {
                        return Err(twice());
                    } else {
                        let info = map.next_value().map_err(named)?;
                        header.tensors.insert(name, info);
                    }
                }
                Ok(header)
            }
        }

        deserializer.deserialize_map(HeaderVisitor)
    }
}

/// A JSON object none of whose names may occur twice.
struct Unique<T>(IndexMap<String, T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Unique<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct UniqueVisitor<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for UniqueVisitor<T> {
            type Value = Unique<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of texts by name")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Unique<T>, A::Error> {
                let mut found = IndexMap::new();
                while let Some(name) = map.next_key::<String>()? {
                    if found.contains_key(&name) {
                        return Err(de::Error::custom(format!("{} occurs twice", shown(&name))));
                    }
                    let value = map.next_value()?;
                    found.insert(name, value);
                }
                Ok(Unique(found))
            }
        }

        deserializer.deserialize_map(UniqueVisitor(PhantomData))
    }
}

/// A header to be written: the metadata where there is any, then the tensors in the order of their data.
struct HeaderText<'a> {
    metadata: &'a Metadata,
    tensors: Vec<(&'a str, TensorInfo)>,
}

impl Serialize for HeaderText<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if !self.metadata.is_empty() {
            map.serialize_entry(METADATA_KEY, &InOrder(self.metadata))?;
        }
        for (name, info) in &self.tensors {
            map.serialize_entry(name, info)?;
        }
        map.end()
    }
}

struct InOrder<'a>(&'a Metadata);

impl Serialize for InOrder<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0)
    }
}

/// The header, padded with spaces so that the data starts at a multiple of 8 bytes.
pub(super) fn header_bytes<N: AsRef<str>>(
    tensors: &[(N, TensorView<'_>)],
    metadata: &Metadata,
) -> Result<Vec<u8>, SafetensorsError> {
    let mut seen = HashSet::new();
    let mut infos = Vec::with_capacity(tensors.len());
    let mut offset = 0;
    for (name, tensor) in tensors {
        let name = name.as_ref();
        let refused = |problem| SafetensorsError::Entry { name: name.to_owned(), problem };
        if name == METADATA_KEY {
            return Err(refused(EntryError::Reserved));
        }
        if !seen.insert(name) {
            return Err(refused(EntryError::Duplicate));
        }
        let end = offset + tensor.size_bytes();
        let shape = tensor.shape().to_vec();
        infos.push((name, TensorInfo { dtype: file_dtype(*tensor), shape, data_offsets: (offset, end) }));
        offset = end;
    }
    let text = HeaderText { metadata, tensors: infos };
    let mut header =
        serde_json::to_vec(&text).map_err(|e| SafetensorsError::Header { reason: e.to_string() })?;
    header.resize(header.len().next_multiple_of(LENGTH_BYTES), b' ');
    if header.len() as u64 > MAX_HEADER_BYTES {
        return Err(SafetensorsError::HeaderLength { claimed: header.len() as u64, available: header.len() });
    }
    Ok(header)
}

fn file_dtype(tensor: TensorView<'_>) -> Dtype {
    match tensor.data() {
        DataView::F32(_) => Dtype::F32,
        DataView::F64(_) => Dtype::F64,
        DataView::I32(_) => Dtype::I32,
        DataView::I64(_) => Dtype::I64,
        DataView::Bool(_) => Dtype::BOOL,
    }
}
