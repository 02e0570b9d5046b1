//! What can go wrong with a file, and how it is reported.
//!
//! A file that cannot be reached is a fault of the file (exit code 3); one that can be read and says
//! something wrong is the user's data (exit code 1); a limit is a limit (exit code 4).

use std::io;
use std::path::PathBuf;

use crate::diag::{Diagnostic, Fault};
use crate::tensor::TensorError;

use super::npy::NpyError;
use super::npz::NpzError;
use super::safetensors::{EntryError, SafetensorsError};

/// Why tensors cannot be read from or written to a file.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The system refuses to read.
    #[error("cannot read `{}`: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The system refuses to write; what was there before still is.
    #[error("cannot write `{}`: {source}", path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A folder, pipe or device where a file is expected.
    #[error("cannot read `{}`: it is not a regular file", path.display())]
    NotRegular {
        /// The path.
        path: PathBuf,
    },
    /// An extension that says nothing.
    #[error("cannot tell the format of `{}` by its extension", path.display())]
    UnknownFormat {
        /// The file.
        path: PathBuf,
    },
    /// Longer than files that are read.
    #[error("`{}` has {size_bytes} bytes, more than the limit of {limit_bytes}", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its length.
        size_bytes: u64,
        /// The longest that is read.
        limit_bytes: u64,
    },
    /// The bytes of the file do not fit into memory.
    #[error("out of memory: `{}` has {size_bytes} bytes", path.display())]
    OutOfMemory {
        /// The file.
        path: PathBuf,
        /// Its length.
        size_bytes: u64,
    },
    /// Bytes where text is expected.
    #[error("`{}` is not a text: {source}", path.display())]
    NotText {
        /// The file.
        path: PathBuf,
        /// Where it ends to be one.
        source: std::string::FromUtf8Error,
    },
    /// Not what a `.safetensors` file may hold.
    #[error("`{}`: {source}", path.display())]
    Safetensors {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: SafetensorsError,
    },
    /// Not what an `.npy` file may hold.
    #[error("`{}`: {source}", path.display())]
    Npy {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: NpyError,
    },
    /// Not what an `.npz` file may hold.
    #[error("`{}`: {source}", path.display())]
    Npz {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: NpzError,
    },
}

impl FileError {
    /// A stable slug.
    pub fn code(&self) -> &'static str {
        match self {
            FileError::Unreadable { .. } => "file-unreadable",
            FileError::Unwritable { .. } => "file-unwritable",
            FileError::NotRegular { .. } => "file-not-regular",
            FileError::UnknownFormat { .. } => "file-format-unknown",
            FileError::TooLarge { .. } => "file-too-large",
            FileError::OutOfMemory { .. } => "out-of-memory",
            FileError::NotText { .. } => "file-not-text",
            FileError::Safetensors { .. } => "safetensors-invalid",
            FileError::Npy { .. } => "npy-invalid",
            FileError::Npz { .. } => "npz-invalid",
        }
    }

    /// What kind of failure it is, which decides the exit code.
    pub fn fault(&self) -> Fault {
        match self {
            FileError::Unreadable { .. } | FileError::Unwritable { .. } | FileError::NotRegular { .. } => {
                Fault::File
            }
            FileError::TooLarge { .. } | FileError::OutOfMemory { .. } => Fault::Limit,
            FileError::UnknownFormat { .. } | FileError::NotText { .. } => Fault::User,
            FileError::Safetensors { source, .. } => match source {
                SafetensorsError::Entry { problem: EntryError::Tensor(e), .. } => tensor_fault(e),
                _ => Fault::User,
            },
            FileError::Npy { source, .. } => npy_fault(source),
            FileError::Npz { source, .. } => match source {
                NpzError::InflatesTooFar { .. } | NpzError::OutOfMemory { .. } => Fault::Limit,
                NpzError::Array { source, .. } => npy_fault(source),
                _ => Fault::User,
            },
        }
    }

    /// The error as it is shown.
    pub fn to_diagnostic(&self) -> Diagnostic {
        let diagnostic = Diagnostic::error(self.code(), self.to_string()).fault(self.fault());
        match self.advice() {
            Some(advice) => diagnostic.help(advice),
            None => diagnostic,
        }
    }

    fn advice(&self) -> Option<&'static str> {
        match self {
            FileError::UnknownFormat { .. } => Some("name it .safetensors, .npy or .npz"),
            FileError::Npz { source: NpzError::InflatesTooFar { .. }, .. } => {
                Some("store the arrays uncompressed, with `numpy.savez`")
            }
            FileError::Npy { source, .. } | FileError::Npz { source: NpzError::Array { source, .. }, .. } => {
                source.advice()
            }
            FileError::Safetensors {
                source: SafetensorsError::Entry { problem: EntryError::Unsupported { .. }, .. },
                ..
            } => Some("convert it to F32, F64, I32, I64 or BOOL before saving"),
            _ => None,
        }
    }
}

impl From<&FileError> for Diagnostic {
    fn from(error: &FileError) -> Self {
        error.to_diagnostic()
    }
}

fn tensor_fault(error: &TensorError) -> Fault {
    match error {
        TensorError::OutOfMemory { .. } => Fault::Limit,
        _ => Fault::User,
    }
}

fn npy_fault(error: &NpyError) -> Fault {
    match error {
        NpyError::Tensor(e) => tensor_fault(e),
        _ => Fault::User,
    }
}

/// A name out of a file as it is shown: quoted, control characters escaped, very long ones cut.
pub(super) fn shown(name: &str) -> String {
    const MOST_CHARS: usize = 120;
    let mut text: String = name.chars().take(MOST_CHARS).flat_map(char::escape_debug).collect();
    if name.chars().nth(MOST_CHARS).is_some() {
        text.push_str("...");
    }
    format!("`{text}`")
}
