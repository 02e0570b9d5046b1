//! The sources that are damaged: all of the zoo, of the library, of the documentation and of the tests.

use mdlc::Compiler;
use mdlc::driver::table::{Table, expression};
use std::fs;
use std::path::{Path, PathBuf};

/// A source, and what is asked of it.
#[derive(Clone, Debug)]
pub struct Source {
    /// For messages, relative to the project.
    pub name: String,
    /// Where its imports lie.
    pub folder: PathBuf,
    pub text: String,
    pub compiler: Compiler,
}

pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// All sources, each with every model that it declares, in a fixed order.
pub fn sources() -> Vec<Source> {
    let mut all = Vec::new();
    for path in files() {
        let text = fs::read_to_string(&path).unwrap();
        let name = path.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
        let folder = path.parent().unwrap().to_owned();
        for model in models(&text) {
            all.push(Source {
                name: name.clone(),
                folder: folder.clone(),
                text: text.clone(),
                compiler: Compiler::new().model(model),
            });
        }
        if name.starts_with("std/") {
            let text = format!("{text}\nmodule User() {{\n{}\n}}\nmodel user = User()\n", user_of(&name));
            all.push(Source { name, folder, text, compiler: Compiler::new().model("user") });
        }
    }
    all.extend(documented());
    all.extend(cases());
    all
}

/// Every `.mdl` file of the project.
fn files() -> Vec<PathBuf> {
    fn collect(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                collect(&path, found);
            } else if path.extension().is_some_and(|e| e == "mdl") {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    for folder in ["models", "std", "tests"] {
        collect(&root().join(folder), &mut found);
    }
    found.sort();
    found
}

/// The names that a text declares with `model`.
fn models(text: &str) -> Vec<String> {
    let declared = text.lines().filter_map(|line| line.strip_prefix("model "));
    declared.filter_map(|rest| rest.split([' ', '=']).next()).map(str::to_owned).collect()
}

/// The blocks of the language reference, those that are refused included.
fn documented() -> Vec<Source> {
    let text = fs::read_to_string(root().join("docs/language.md")).unwrap();
    let mut found = Vec::new();
    for block in text.split("```mdl").skip(1) {
        let (kind, body) = block.split_once('\n').unwrap();
        let body = body.split("```").next().unwrap();
        for model in models(body) {
            found.push(Source {
                name: format!("docs/language.md, a block `mdl{kind}`"),
                folder: root(),
                text: body.to_owned(),
                compiler: Compiler::new().model(model),
            });
        }
    }
    assert!(found.len() > 8, "the reference has examples");
    found
}

/// The third-party cases: every model at sizes that are quick to compile and call.
fn cases() -> Vec<Source> {
    let base = root().join("tests/oracles");
    let table: Table = toml::from_str(&fs::read_to_string(base.join("cases.toml")).unwrap()).unwrap();
    let mut found = Vec::new();
    for case in &table.cases {
        // Cases of measured tables alone call nothing.
        let Some(file) = &case.file else { continue };
        let path = root().join(file);
        let mut compiler = Compiler::new();
        if let Some(model) = &case.model {
            compiler = compiler.model(model);
        }
        for (name, value) in &case.args {
            compiler = compiler.set(name, expression(value).unwrap());
        }
        for (name, size) in &case.dims {
            compiler = compiler.dim(name, *size);
        }
        for call in case.calls() {
            let mut compiler = compiler.clone();
            if let Some(entry) = &call.entry {
                compiler = compiler.entry(entry);
            }
            found.push(Source {
                name: format!("{} as {}", file.display(), case.name),
                folder: path.parent().unwrap().to_owned(),
                text: fs::read_to_string(&path).unwrap(),
                compiler,
            });
        }
    }
    found
}

/// What uses a library file: a module that is appended to its text.
fn user_of(library: &str) -> &'static str {
    match library {
        "std/activations.mdl" => {
            "forward(x: [B, 6]) = glu(mish(softplus(gelu_tanh(celu(hardswish(selu(threshold(x, 0.1, 0.2)))))))"
        }
        "std/attend.mdl" => {
            "forward(q: [B, 2, T, 4], keep: bool[B, T]) = merge_heads(attend(q, q, q, mask = causal and padding(keep) and window(2)))"
        }
        "std/conv.mdl" => {
            "c = Conv2d(4, 6, 3, padding = 1, groups = 2)
             t = ConvTranspose1d(6, 4, 3, stride = 2)
             forward(x: [B, 4, 8, 8], z: [B, 6, L]) =
                (max_pool2d(resize2d(c(x), 4, 6, cubic_resize), 2), avg_pool1d(t(z), 2), pixel_shuffle(x, 2))"
        }
        "std/math.mdl" => {
            "forward(x: [B, 4, 5]) = (cumsum(normalize(x)), variance(roll(flip(x), 2)), tril(x), spectral_norm(x))"
        }
        "std/nn.mdl" => {
            "e = Embedding(9, 6)
             l = [Linear(6, 6), LayerNorm([6]), RMSNorm([6]), PReLU(), BatchNorm(6)]
             g = GroupNorm(2, 6)
             forward(ids: i64[N]) = local_response_norm(g(l(e(ids))), 3)"
        }
        "std/position.mdl" => {
            "forward(x: [B, H, T, 6], pos: i64[B, T]) = (rotary(x, pos), sinusoidal(T, 6), sinusoidal_halves(T, 6))"
        }
        "std/recurrent.mdl" => {
            "l = LSTM(4, 6, layers = 2, bidirectional = true)
             g = GRU(4, 6)
             forward(x: [T, B, 4]) = (l(x)[0], g(x)[0])"
        }
        "std/transformer.mdl" => {
            "t = Transformer(8, 2, 12, encoders = 1, decoders = 1)
             forward(src: [B, S, 8], tgt: [B, T, 8]) = t(src, tgt)"
        }
        _ => "forward(x: [B, 6]) = relu(x)",
    }
}
