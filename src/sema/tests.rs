//! Snippets that elaborate, and what is said of those that do not.

use super::library::{FolderLoader, NoFiles};
use super::{Request, elaborate};
use crate::diag::render_plain;
use crate::graph::ir::Program;
use crate::graph::verify::verify;
use crate::source::SourceMap;
use std::path::Path;

/// The verified program of a text, or its diagnostics as text.
fn compile_with(text: &str, request: Request) -> Result<(Program, SourceMap), String> {
    let mut sources = SourceMap::new();
    let file = sources.add("test.mdl", text);
    let request = Request { file: Some(file), ..request };
    match elaborate(&request, &mut sources, &NoFiles) {
        Ok(program) => match verify(&program) {
            Ok(()) => Ok((program, sources)),
            Err(error) => Err(format!("verify: {}", render_plain(&sources, &[error.to_diagnostic()]))),
        },
        Err(errors) => Err(render_plain(&sources, &errors)),
    }
}

fn compile(text: &str) -> Result<Program, String> {
    compile_with(text, Request::default()).map(|(p, _)| p)
}

fn program(text: &str) -> Program {
    compile(text).unwrap_or_else(|e| panic!("{e}"))
}

fn errors(text: &str) -> String {
    match compile(text) {
        Ok(_) => panic!("it elaborates"),
        Err(e) => e,
    }
}

fn paths(program: &Program) -> Vec<&str> {
    program.signature.weights.iter().map(|w| w.path.as_str()).collect()
}

fn outputs(program: &Program) -> Vec<String> {
    let ports = program.signature.outputs.iter();
    ports.map(|p| format!("{}: {}", p.name, super::value::type_text(p.ty.dtype, &p.ty.shape))).collect()
}

#[test]
fn the_highway_network_of_the_language_reference_elaborates() {
    let program = program(
        "module Highway(D, act: fn = relu) {
             plain = Linear(D, D)
             gate = Linear(D, D, bias_init = -1.0)
             forward(x: [.., D]) -> [.., D] {
                 let h = act(plain(x))
                 let t = sigmoid(gate(x))
                 h * t + x * (1 - t)
             }
         }
         module HighwayNet(I, D, classes, depth = 2) {
             input_proj = Linear(I, D)
             layers = [Highway(D); depth]
             head = Linear(D, classes)
             forward(x: [B, I]) -> logits: [B, classes] {
                 x = relu(input_proj(x))
                 for layer in layers { x = layer(x) }
                 head(x)
             }
         }
         model net = HighwayNet(784, 50, 10)",
    );
    assert_eq!(outputs(&program), ["logits: [B, 10]"]);
    assert_eq!(paths(&program)[2..4], ["layers.0.plain.weight", "layers.0.plain.bias"]);
    // Equal layers are one function: four kinds of Linear, Highway, the net.
    assert_eq!(program.functions.len(), 6);
}

/// Elaborates the `forward` of every model of a file; gives what failed.
fn failures(path: &Path) -> Vec<String> {
    use crate::syntax::{ast, parse};
    let text = std::fs::read_to_string(path).unwrap();
    let mut sources = SourceMap::new();
    let name = path.file_name().unwrap().to_string_lossy().into_owned();
    let file = sources.add(name.clone(), text.clone());
    let tree = parse(file, &text).unwrap_or_else(|e| panic!("{}", render_plain(&sources, &e)));
    let mut failed = Vec::new();
    for item in &tree.items {
        let ast::ItemKind::Model(decl) = &item.kind else { continue };
        let model = decl.name.as_plain().unwrap().to_string();
        let mut sources = SourceMap::new();
        let file = sources.add(name.clone(), text.clone());
        let shape = match model.as_str() {
            "layer_norm" => Some("B,24"),
            "layer_norm_2d" => Some("B,5,7"),
            "rms_norm" => Some("B,20"),
            _ => None,
        };
        let axes = |text: &str| text.split(',').map(String::from).collect();
        let request = Request {
            file: Some(file),
            model: Some(model.clone()),
            shapes: shape.map(|s| ("x".to_string(), axes(s))).into_iter().collect(),
            ..Request::default()
        };
        let loader = FolderLoader::new(path.parent().unwrap());
        match elaborate(&request, &mut sources, &loader) {
            Ok(program) => {
                if let Err(error) = verify(&program) {
                    failed.push(format!("{model}: {}", render_plain(&sources, &[error.to_diagnostic()])));
                }
            }
            Err(errors) => failed.push(format!("{model}: {}", render_plain(&sources, &errors))),
        }
    }
    failed
}

#[test]
fn all_models_elaborate() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    let mut failed = Vec::new();
    for folder in [root.clone(), root.join("ops")] {
        let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
        files.sort();
        for file in files.iter().filter(|f| f.extension().is_some_and(|e| e == "mdl")) {
            failed.extend(failures(file).into_iter().map(|f| format!("{}: {f}", file.display())));
        }
    }
    assert!(failed.is_empty(), "{} fail\n{}", failed.len(), failed.join("\n"));
}

#[test]
fn computed_names_flat_members_and_nested_lists_make_paths() {
    let program = program(
        "module Stack(D) { layers = [[Linear(D, D, bias = false), relu], Linear(D, D)]
             forward(x: [B, D]) -> [B, D] = layers(x) }
         module M(D, n) {
             flat inner = Stack(D)
             for i in 0..n { `layer{i + 1}` = Linear(D, D, bias = false) }
             scale = Linear(D, D) when n > 5
             forward(x: [B, D]) -> [B, D] {
                 x = inner(x)
                 for i in 0..n { x = self.`layer{i + 1}`(x) }
                 x
             }
         }
         model m = M(4, 2)",
    );
    let expected =
        ["layers.0.0.weight", "layers.1.weight", "layers.1.bias", "layer1.weight", "layer2.weight"];
    assert_eq!(paths(&program), expected);
}

#[test]
fn tied_weights_are_one() {
    let program = program(
        "module M(V, D) {
             a = Linear(D, V, bias = false)
             b = Linear(D, V, bias = false)
             tie b.weight = a.weight
             forward(x: [B, D]) -> (p: [B, V], q: [B, V]) = (a(x), b(x))
         }
         model m = M(7, 3)",
    );
    assert_eq!(paths(&program), ["a.weight"]);
    assert_eq!(program.signature.weights[0].aliases, ["b.weight"]);
    assert_eq!(outputs(&program), ["p: [B, 7]", "q: [B, 7]"]);
}

#[test]
fn defaults_and_settings_choose_the_model() {
    let text = "module M(D, F = 4 * D) {
             up = Linear(D, F)
             forward(x: [B, T, D], shift: [B, T, F] = 0, act: fn = relu) -> [B, T, F] = act(up(x) + shift)
         }
         model m = M(3)";
    let plain = program(text);
    assert_eq!(outputs(&plain), ["y: [B, T, 12]"]);
    assert_eq!(plain.signature.omitted, ["shift"]);
    let request = Request {
        set: vec![("D".into(), "5".into())],
        dims: vec![("B".into(), 2)],
        with: vec!["shift".into()],
        ..Request::default()
    };
    let (program, _) = compile_with(text, request).unwrap();
    assert_eq!(outputs(&program), ["y: [2, T, 20]"]);
    assert_eq!(program.signature.inputs.len(), 2);
    assert_eq!(program.signature.dims.len(), 1);
}

#[test]
fn ranks_are_given_by_the_request() {
    let text = "model m = Linear(3, 4)";
    assert!(errors(text).contains("--shape x="));
    let request = Request {
        shapes: vec![("x".into(), vec!["B".into(), "T".into(), "3".into()])],
        ..Request::default()
    };
    let (program, _) = compile_with(text, request).unwrap();
    assert_eq!(outputs(&program), ["y: [B, T, 4]"]);
}

#[test]
fn groups_are_solved_and_undecided_sizes_are_checked_by_the_call() {
    let program = program(
        "fn half(x: [B, (G, 2)]) -> [B, G] { let (a, b) = split(x, 2)
             a + b }
         module M() { forward(x: [B, N], z: [B, M]) -> [B, N // 2] = half(x) + half(z) }
         model m = M()",
    );
    let checks: Vec<String> =
        program.checks.iter().map(|c| crate::graph::print::condition_text(&c.condition)).collect();
    assert!(!checks.is_empty(), "{checks:?}");
    assert_eq!(outputs(&program), ["y: [B, (N//2)]"]);
}

#[test]
fn mistakes_are_told_together_with_names_and_places() {
    let text = "module M(D) {
             a = Linaer(D, D)
             b = Linear(D, D + 1)
             forward(x: [B, D]) -> [B, D] {
                 let p = c(x)
                 let q = b(b(x))
                 let r = i64(x) + x
                 a(p)
             }
         }
         model m = M(3)";
    let told = errors(text);
    for part in ["did you mean `Linear`", "`c` is not known", "wants [.., 3]", "operands of one type"] {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert_eq!(told.matches("error[").count(), 4, "{told}");
}

#[test]
fn recursion_and_bombs_end_early() {
    assert!(errors("module M() { m = M()  forward(x: [B]) = x } model m = M()").contains("uses itself"));
    assert!(
        errors("fn f(n: int) -> int = f(n - 1) module M(D = f(3)) { forward(x: [D]) = x } model m = M()")
            .contains("f > f")
    );
    let mut text = String::from("module M0(D) { param w: [D] forward(x: [D]) = x + w }\n");
    for k in 1..64 {
        let lower = k - 1;
        text += &format!("module M{k}(D) {{ a = M{lower}(D) b = M{lower}(D) forward(x: [D]) = a(b(x)) }}\n");
    }
    text += "model m = M63(2)";
    assert!(errors(&text).contains("members"));
    assert!(
        errors("module M() { let l = [for i in 0..2000000: i] forward(x: [B]) = x } model m = M()")
            .contains("turns")
    );
}

#[test]
fn imports_stay_below_the_root() {
    for path in ["../a.mdl", "/etc/passwd", "a/../../b.mdl"] {
        let text = format!("use \"{path}\" as a\nmodule M() {{ forward(x: [B]) = x }} model m = M()");
        assert!(errors(&text).contains("import-outside"), "{path}");
    }
}

#[test]
fn deep_and_shared_structures_end_early() {
    let lists = "fn f(x: int) -> list { let l = [x, x]\n for i in 0..64 { l = [l, l] }\n l }
         module M(l: list = f(1)) { forward(x: [B]) = x } model m = M()";
    assert!(errors(lists).contains("error[limit]"));
    let strings = "fn f(s: str) -> str { for i in 0..64 { s = s ++ s }\n s }
         module M(s: str = f(\"ab\")) { forward(x: [B]) = x } model m = M()";
    assert!(errors(strings).contains("error[limit]"));
    let mut text = String::from("fn f0(x: int) -> int = x\n");
    for k in 1..255 {
        let nest = 60;
        text +=
            &format!("fn f{k}(x: int) -> int = {}f{}(x){}\n", "(1 + ".repeat(nest), k - 1, ")".repeat(nest));
    }
    text += "module M(n = f254(1)) { forward(x: [B]) = x } model m = M()";
    program(&text);
    text = text.replace("M(n = f254(1))", "M(n = g(1))")
        + "\nfn g(x: int) -> int = h(x)\nfn h(x: int) -> int = f254(x)";
    assert!(errors(&text).contains("error[limit]"));
}

#[test]
fn shape_errors_name_both_sides_and_where_the_module_was_made() {
    let told = errors(
        "module M(D) {
             a = Linear(D, 2 * D)
             b = Linear(D, D)
             forward(x: [B, D]) -> [B, D] = b(a(x))
         }
         model m = M(3)",
    );
    for part in [
        "`x` of `Linear.forward` wants [.., 3], but this is [B, 6]",
        "test.mdl:4",
        "`I` is 3",
        "axis 1 is 6, not 3",
        "made here",
        "b = Linear(D, D)",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
}

#[test]
fn faults_inside_the_library_name_the_call() {
    let told = errors("module M() { forward(x: [B, 5]) = glu(x) } model m = M()");
    assert!(told.contains("5 does not fall into 2 equal parts"), "{told}");
    assert!(told.contains("in this call"), "{told}");
}

#[test]
fn a_branch_that_is_not_taken_says_nothing_of_ranges() {
    let program = program(
        "module M(wide: bool = false) {
             param w: [7] = ones() when wide
             forward(x: [B, 5]) -> [B, 5] {
                 let y[b, i] = if wide { x[b, i] * w[i] } else { x[b, i] }
                 y
             }
         }
         model m = M()",
    );
    assert_eq!(outputs(&program), ["y: [B, 5]"]);
}

#[test]
fn narrow_sizes_are_warned_of_unless_they_are_required() {
    let warnings = |text: &str| -> Vec<String> {
        let program = program(text);
        let inputs = &program.signature.inputs;
        program.checks.iter().filter_map(|c| c.to_warning(inputs)).map(|w| w.title).collect()
    };
    let sum = |require: &str| {
        format!(
            "module M {{ forward(x: [B, T], y: [B, S]) -> [B, T] {{ {require}
                 x + y }} }}
             model m = M()"
        )
    };
    assert_eq!(warnings(&sum("")), ["this is right only where T is S, which each call checks"]);
    for require in ["require T == S", "require S == T, \"one length\"", "require B > 0 and T == S"] {
        assert_eq!(warnings(&sum(require)), [""; 0], "{require}");
    }
    let groups = "fn half(x: [B, (G, 2)]) -> [B, G] { let (a, b) = split(x, 2)
             a + b }
         module M() { forward(x: [B, N]) -> [B, N // 2] = half(x) }
         model m = M()";
    assert_eq!(warnings(groups), [""; 0]);
}
