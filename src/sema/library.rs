//! The standard library, embedded, and the loader of files below a folder.

use super::Loader;
use std::path::{Path, PathBuf};

/// Files of the library: path as imports name it, text.
pub const FILES: &[(&str, &str)] = &[
    ("std/prelude.mdl", include_str!("../../std/prelude.mdl")),
    ("std/activations.mdl", include_str!("../../std/activations.mdl")),
    ("std/attend.mdl", include_str!("../../std/attend.mdl")),
    ("std/conv.mdl", include_str!("../../std/conv.mdl")),
    ("std/math.mdl", include_str!("../../std/math.mdl")),
    ("std/nn.mdl", include_str!("../../std/nn.mdl")),
    ("std/position.mdl", include_str!("../../std/position.mdl")),
    ("std/recurrent.mdl", include_str!("../../std/recurrent.mdl")),
    ("std/transformer.mdl", include_str!("../../std/transformer.mdl")),
];

/// The text of a library file.
pub fn text(path: &str) -> Option<&'static str> {
    FILES.iter().find(|(p, _)| *p == path).map(|(_, text)| *text)
}

/// Reads files below one folder; links that lead out of it are refused.
#[derive(Debug)]
pub struct FolderLoader {
    root: PathBuf,
}

impl FolderLoader {
    /// A loader for a root file's folder.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        FolderLoader { root: root.into() }
    }
}

impl Loader for FolderLoader {
    fn load(&self, path: &str) -> Result<String, String> {
        let root = self.root.canonicalize().map_err(|e| e.to_string())?;
        let file = root.join(Path::new(path)).canonicalize().map_err(|e| e.to_string())?;
        if !file.starts_with(&root) {
            return Err("it is a link that leads out of the root file's folder".into());
        }
        let limit = crate::syntax::MAX_TEXT_BYTES as u64;
        let size = std::fs::metadata(&file).map_err(|e| e.to_string())?;
        if !size.is_file() {
            return Err("it is not a file".into());
        }
        if size.len() > limit {
            return Err(format!("it is longer than {limit} bytes"));
        }
        std::fs::read_to_string(&file).map_err(|e| e.to_string())
    }
}

/// Refuses all files: for sources that stand alone.
#[derive(Debug)]
pub struct NoFiles;

impl Loader for NoFiles {
    fn load(&self, _path: &str) -> Result<String, String> {
        Err("this source stands alone and cannot import files".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::span::FileId;
    use crate::syntax::{ast, parse};

    /// They are resolved where they are first used, so nothing else would notice.
    #[test]
    fn all_names_that_library_files_import_are_there() {
        let mut imported = 0;
        for (path, content) in FILES {
            let Ok(tree) = parse(FileId(0), content) else { panic!("{path} does not parse") };
            for item in &tree.items {
                let ast::ItemKind::Use(ast::UseDecl::Path { path: parts, names: Some(names) }) = &item.kind
                else {
                    continue;
                };
                let parts: Vec<&str> = parts.iter().filter_map(ast::Name::as_plain).collect();
                let target = format!("{}.mdl", parts.join("/"));
                let Some(content) = text(&target) else { panic!("{path} imports {target}") };
                let Ok(target_tree) = parse(FileId(0), content) else { panic!("{target} does not parse") };
                for name in names {
                    let name = name.as_plain();
                    let declares = |item: &ast::Item| match &item.kind {
                        ast::ItemKind::Module(d) => d.name.as_plain() == name,
                        ast::ItemKind::Fn(d) => d.name.as_plain() == name,
                        ast::ItemKind::Pattern(d) => d.name.as_plain() == name,
                        ast::ItemKind::Model(_) | ast::ItemKind::Use(_) => false,
                    };
                    assert!(target_tree.items.iter().any(declares), "{path} imports {name:?}");
                    imported += 1;
                }
            }
        }
        assert!(imported > 50, "{imported}");
    }
}
