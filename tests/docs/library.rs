//! `docs/std.md` lists the standard library as its sources declare it.

use super::{assert_current, document};
use mdlc::sema::library::FILES;
use mdlc::source::SourceMap;
use mdlc::span::Span;
use mdlc::syntax::ast::{EntryDecl, ExprKind, Item, ItemKind, Member, MemberKind, ModuleDecl, UseDecl};
use std::collections::BTreeSet;
use std::fmt::Write;

/// Below this line the page is made from the sources.
const MARK: &str = "<!-- Made from std/*.mdl by `INSTA_UPDATE=always cargo test --test docs`. -->\n";

/// One parsed file of the library.
struct Library<'a> {
    text: &'a str,
    items: Vec<Item>,
}

impl<'a> Library<'a> {
    fn parse(name: &str, text: &'a str) -> Self {
        let file = SourceMap::new().add(name, text);
        let tree = mdlc::syntax::parse(file, text).unwrap_or_else(|e| panic!("{name}: {e:?}"));
        Library { text, items: tree.items }
    }

    /// The source between two places, on one line.
    fn between(&self, start: u32, end: u32) -> String {
        let text = &self.text[start as usize..end as usize];
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// What is written from a name to a body.
    fn head(&self, name: Span, body: Span) -> String {
        self.between(name.start, body.start).trim_end_matches(['=', ' ']).to_string()
    }

    fn module_head(&self, module: &ModuleDecl) -> String {
        let name = self.between(module.name.span.start, module.name.span.end);
        match (module.statics.first(), module.statics.last()) {
            (Some(first), Some(last)) => {
                let end = last.default.as_ref().map_or(last.span.end, |d| d.span.end.max(last.span.end));
                format!("{name}({})", self.between(first.span.start, end))
            }
            _ => format!("{name}()"),
        }
    }

    fn entry_head(&self, entry: &EntryDecl) -> String {
        let head = self.head(entry.name.span, entry.body.span);
        if entry.name.as_plain() == Some("forward") { head } else { format!("entry {head}") }
    }

    /// Names under which a module's weights lie, as written.
    fn weights(&self, members: &[Member], found: &mut Vec<String>) {
        for member in members {
            let name = |span: Span| self.between(span.start, span.end).trim_matches('`').to_string();
            let new = match &member.kind {
                MemberKind::Param(weight) | MemberKind::Buffer(weight) => name(weight.name.span),
                MemberKind::Sub { flat: true, value, .. } => match &*value.kind {
                    ExprKind::Call { callee, .. } => format!("those of {}", name(callee.span)),
                    _ => continue,
                },
                MemberKind::Sub { name: sub, .. } => format!("{}.*", name(sub.span)),
                MemberKind::For { members, .. } => {
                    self.weights(members, found);
                    continue;
                }
                MemberKind::If { then, otherwise, .. } => {
                    self.weights(then, found);
                    self.weights(otherwise.as_deref().map_or(&[], Vec::as_slice), found);
                    continue;
                }
                _ => continue,
            };
            if !found.contains(&new) {
                found.push(new);
            }
        }
    }
}

fn sentence(doc: &[String], what: &str) -> String {
    assert!(!doc.is_empty(), "`{what}` has no `##` comment");
    doc.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ")
}

/// The comment at the top of a file.
fn introduction(text: &str) -> String {
    let lines = text.lines().take_while(|line| line.starts_with("# "));
    lines.map(|line| &line[2..]).collect::<Vec<_>>().join("\n")
}

/// The names that need no `use`.
fn prelude() -> BTreeSet<String> {
    let (name, text) = FILES.iter().find(|(name, _)| *name == "std/prelude.mdl").unwrap();
    let items = Library::parse(name, text).items;
    let names = items.iter().filter_map(|item| match &item.kind {
        ItemKind::Use(UseDecl::Path { names, .. }) => names.as_ref(),
        _ => None,
    });
    names.flatten().filter_map(|name| name.as_plain()).map(str::to_string).collect()
}

fn describe(library: &Library<'_>, item: &Item, known: &BTreeSet<String>, out: &mut String) -> bool {
    let (name, head) = match &item.kind {
        ItemKind::Fn(f) => (&f.name, library.head(f.name.span, f.body.span)),
        ItemKind::Pattern(p) => (&p.name, format!("pattern {}", library.head(p.name.span, p.body.span))),
        ItemKind::Module(m) => (&m.name, format!("module {}", library.module_head(m))),
        ItemKind::Use(_) => return false,
        ItemKind::Model(_) => panic!("the library declares a model"),
    };
    let name = name.as_plain().unwrap();
    let mark = if known.contains(name) { "" } else { " °" };
    writeln!(out, "- `{head}`{mark}: {}", sentence(&item.doc, name)).unwrap();
    let ItemKind::Module(module) = &item.kind else { return true };
    for member in &module.members {
        if let MemberKind::Entry(entry) = &member.kind {
            let doc: String = member.doc.iter().map(|line| format!(" {}", line.trim())).collect();
            let colon = if doc.is_empty() { "" } else { ":" };
            writeln!(out, "  - `{}`{colon}{doc}", library.entry_head(entry)).unwrap();
        }
    }
    let mut weights = Vec::new();
    library.weights(&module.members, &mut weights);
    if !weights.is_empty() {
        let names: Vec<String> = weights.iter().map(|name| format!("`{name}`")).collect();
        writeln!(out, "  - weights {}", names.join(", ").replace("`those of ", "those of `")).unwrap();
    }
    true
}

#[test]
fn the_library_is_described_whole() {
    let known = prelude();
    let mut made = String::new();
    let mut count = 0;
    for (path, text) in FILES.iter().filter(|(path, _)| *path != "std/prelude.mdl") {
        let library = Library::parse(path, text);
        let module = path.trim_end_matches(".mdl").replace('/', ".");
        let title = introduction(text);
        assert!(!title.is_empty(), "{path} has no comment at its top");
        write!(made, "\n## {module}\n\n{title}\n\n").unwrap();
        for item in &library.items {
            count += usize::from(describe(&library, item, &known, &mut made));
        }
    }
    assert!(count > 80, "only {count} declarations");
    let page = document("docs/std.md").text;
    let (written, _) = page.split_once(MARK).expect("the mark");
    assert_current("docs/std.md", &format!("{written}{MARK}{made}"));
}

/// Each file on the disk is one that the compiler carries.
#[test]
fn the_library_is_embedded_whole() {
    let on_disk: Vec<String> =
        super::files("std", ".mdl").iter().map(|path| path.to_string_lossy().into_owned()).collect();
    let mut embedded: Vec<String> = FILES.iter().map(|(path, _)| (*path).to_string()).collect();
    embedded.sort();
    assert_eq!(on_disk, embedded);
}
