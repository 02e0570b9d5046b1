//! Code in files: objects, static and shared libraries, and the header that describes them.
//!
//! An object holds the same code as the JIT, position-independent, and exports the five functions
//! of [`super::clif`]; it needs no library. All results are bytes: writing files is the driver's.

use super::archive::archive;
use super::clif::{self, CodeStats, Exports};
use super::error::CodeError;
use super::header;
use super::target::{Options, Placement};
use crate::loops::buffers::{BlobLayout, LimitError, Plan};
use crate::loops::ir::LoopProgram;
use crate::loops::marks::is_marked;
use cranelift_codegen::ir::LibCall;
use cranelift_object::{ObjectBuilder, ObjectModule};
use std::io::ErrorKind;
use std::process::{Command, Stdio};

/// A compiled program as an object file with its header.
#[derive(Clone, Debug)]
pub struct Object {
    /// The object file.
    pub bytes: Vec<u8>,
    /// The C header.
    pub header: String,
    /// What every exported name begins with.
    pub prefix: String,
    /// Name and size of each function.
    pub functions: Vec<(String, CodeStats)>,
}

/// Compiles a program to an object whose exported names begin with `prefix`, a C identifier.
///
/// # Errors
/// As [`super::jit::Code::new`]; sizes that cannot be computed are [`CodeError::TooLarge`].
pub fn compile(
    program: &LoopProgram,
    plan: &Plan,
    options: Options,
    prefix: &str,
) -> Result<Object, CodeError> {
    clif::check_types(&program.signature)?;
    if is_marked(program) {
        let (function, reason) = (program.signature.name.clone(), "objects have no marks".to_string());
        return Err(CodeError::Internal { function, reason });
    }
    let blob = BlobLayout::new(program).map_err(|LimitError(error)| CodeError::TooLarge {
        function: program.signature.name.clone(),
        reason: error.to_string(),
    })?;
    let compilers = options.cpu.compilers(Placement::Object)?;
    let failed = |error| CodeError::of_module(&program.signature.name, &error);
    let builder = ObjectBuilder::new(compilers.target(), prefix, Box::new(no_library)).map_err(failed)?;
    let mut module = ObjectModule::new(builder);
    let functions = clif::define(&mut module, compilers, program, plan, options, None)?.functions;
    let ids: Vec<_> = functions.iter().map(|function| function.id).collect();
    let description = header::description(&program.signature, options.cpu);
    let (description, cpu) = (description.as_str(), options.cpu);
    let exports = Exports { program, plan, blob: &blob, functions: &ids, prefix, description, cpu };
    clif::define_exports(&mut module, &exports)?;
    let mut product = module.finish();
    product.object.add_file_symbol(prefix.as_bytes().to_vec());
    mark_stack(&mut product);
    let bytes = product.emit().map_err(|error| CodeError::Internal {
        function: program.signature.name.clone(),
        reason: error.to_string(),
    })?;
    let header = header::text(program, prefix, options.cpu);
    let functions = functions.into_iter().map(|function| (function.name, function.stats)).collect();
    Ok(Object { bytes, header, prefix: prefix.to_string(), functions })
}

/// Says that the code needs no executable stack, which linkers assume of objects that do not say.
fn mark_stack(product: &mut cranelift_object::ObjectProduct) {
    use cranelift_object::object::SectionKind;
    let name = b".note.GNU-stack".to_vec();
    product.object.add_section(Vec::new(), name, SectionKind::Other);
}

fn no_library(call: LibCall) -> String {
    format!("mdlc_missing_{call}")
}

impl Object {
    /// As a static library.
    pub fn to_archive(&self) -> Vec<u8> {
        archive("model.o", &self.bytes, &clif::exported_names(&self.prefix))
    }

    /// As a shared library, linked by the system's C compiler.
    ///
    /// # Errors
    /// [`CodeError::File`] where there is no compiler, or it fails.
    pub fn to_shared(&self) -> Result<Vec<u8>, CodeError> {
        let io = |what: &str, error: &std::io::Error| CodeError::File(format!("cannot {what}: {error}"));
        let folder = tempfile::tempdir().map_err(|error| io("make a temporary folder", &error))?;
        let (object, shared) = (folder.path().join("model.o"), folder.path().join("model.so"));
        std::fs::write(&object, &self.bytes).map_err(|error| io("write the object", &error))?;
        let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
        let run = Command::new(&compiler)
            .args(["-shared", "-nostdlib", "-Wl,-z,noexecstack", "-o"])
            .arg(&shared)
            .arg(&object)
            .stdin(Stdio::null())
            .output();
        let output = run.map_err(|error| {
            let name = compiler.to_string_lossy();
            CodeError::File(if error.kind() == ErrorKind::NotFound {
                format!("a shared library is linked by a C compiler, and `{name}` is not there; write `.o` or `.a`, or set CC")
            } else {
                format!("cannot run `{name}`: {error}")
            })
        })?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(CodeError::File(format!(
                "the C compiler could not link the library: {}",
                said.trim()
            )));
        }
        std::fs::read(&shared).map_err(|error| io("read the library", &error))
    }
}

#[cfg(test)]
mod tests;
