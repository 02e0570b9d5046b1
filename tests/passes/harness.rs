//! Snippets through the table of passes, and what there is to say of each stage.

use mdlc::dtype::DType;
use mdlc::graph::dims::{DimEnv, bind_dims};
use mdlc::graph::eval::{Mode, evaluate};
use mdlc::graph::ir::{Graph, Index, MatMul, Node, Op, Program, Recur, Region, RegionKind, Segment};
use mdlc::graph::print::{Options, print};
use mdlc::graph::verify::{verify, verify_after};
use mdlc::ops::init::initialise;
use mdlc::passes::{Changed, PIPELINE};
use mdlc::sema::library::NoFiles;
use mdlc::sema::{Request, elaborate};
use mdlc::source::SourceMap;
use mdlc::tensor::{Data, Tensor};

/// Sizes of the free dimensions of one evaluation, by name.
pub type Sizes<'a> = &'a [(&'a str, i64)];

/// Passes from this one on may take sums in another order or move factors across them.
const FIRST_INEXACT: &str = "solve-windows";

/// A program as elaborated and after each pass.
pub struct Trace {
    sources: SourceMap,
    /// The elaborated program, then one for each pass of the table.
    stages: Vec<Program>,
    changed: Vec<bool>,
}

/// A module `M` with these members and one entry.
pub fn module(members: &str, forward: &str) -> String {
    format!("module M {{\n{members}\nforward{forward}\n}}\n")
}

/// The graph of module `M` of a text.
pub fn elaborated(text: &str, dims: Sizes) -> (Program, SourceMap) {
    let mut sources = SourceMap::new();
    let file = sources.add("snippet.mdl", text);
    let request = Request {
        file: Some(file),
        model: Some("M".into()),
        dims: dims.iter().map(|(name, size)| ((*name).to_string(), *size)).collect(),
        ..Request::default()
    };
    let result = elaborate(&request, &mut sources, &NoFiles);
    let program = result.unwrap_or_else(|errors| panic!("{}", mdlc::diag::render_plain(&sources, &errors)));
    verify(&program).unwrap();
    (program, sources)
}

/// Runs the table on module `M` of a text.
///
/// After each pass the graph is verified and evaluated at all `sizes`; a pass that says that it
/// changed nothing must leave the printed graph as it was.
pub fn trace(text: &str, sizes: &[Sizes]) -> Trace {
    let (program, sources) = elaborated(text, &[]);
    let calls: Vec<Call> = sizes.iter().map(|sizes| Call::new(&program, sizes)).collect();
    let mut trace = Trace { sources, stages: vec![program], changed: Vec::new() };
    let mut exact = true;
    for pass in PIPELINE {
        let mut program = trace.stages[trace.stages.len() - 1].clone();
        let changed = (pass.run)(&mut program) == Changed::Yes;
        if let Err(fault) = verify_after(pass.name, &program) {
            panic!("{}\n{}", fault.to_diagnostic().title, trace.show(&program));
        }
        exact &= pass.name != FIRST_INEXACT;
        for call in &calls {
            if let Err(why) = call.compare(&program, exact) {
                panic!("after {} at {:?}: {why}\n{}", pass.name, call.sizes, trace.show(&program));
            }
        }
        let before = trace.show(&trace.stages[trace.stages.len() - 1]);
        assert!(changed || before == trace.show(&program), "{} hides a change", pass.name);
        trace.stages.push(program);
        trace.changed.push(changed);
    }
    trace
}

impl Trace {
    fn position(pass: &str) -> usize {
        PIPELINE.iter().position(|p| p.name == pass).unwrap_or_else(|| panic!("there is no pass {pass}"))
    }

    /// The program that a pass was given.
    pub fn before(&self, pass: &str) -> &Program {
        &self.stages[Self::position(pass)]
    }

    /// The program that a pass left.
    pub fn after(&self, pass: &str) -> &Program {
        &self.stages[Self::position(pass) + 1]
    }

    /// Whether a pass says that it changed something.
    pub fn changed(&self, pass: &str) -> bool {
        self.changed[Self::position(pass)]
    }

    /// The program after all passes.
    pub fn last(&self) -> &Program {
        &self.stages[self.stages.len() - 1]
    }

    fn show(&self, program: &Program) -> String {
        print(program, &self.sources, Options::default())
    }

    /// Fails unless `count` of the program after a pass is `expected`; shows the program.
    #[track_caller]
    pub fn expect(&self, pass: &str, count: impl Fn(&Program) -> usize, expected: usize) {
        let (before, after) = (self.before(pass), self.after(pass));
        let found = count(after);
        assert!(
            found == expected,
            "{found} after {pass}, expected {expected}\nbefore:\n{}\nafter:\n{}",
            self.show(before),
            self.show(after)
        );
    }

    /// Fails unless a pass takes `count` from one number to another.
    #[track_caller]
    pub fn expect_change(&self, pass: &str, count: impl Fn(&Program) -> usize, from: usize, to: usize) {
        assert_eq!(count(self.before(pass)), from, "before {pass}:\n{}", self.show(self.before(pass)));
        self.expect(pass, count, to);
    }

    /// Fails if a pass changed anything.
    #[track_caller]
    pub fn expect_unchanged(&self, pass: &str) {
        assert!(!self.changed(pass), "{pass} changed this:\n{}", self.show(self.after(pass)));
    }
}

/// One evaluation and what it gave before any pass.
struct Call {
    sizes: Vec<(String, i64)>,
    inputs: Vec<Tensor>,
    weights: Vec<Tensor>,
    dims: DimEnv,
    real: Vec<Tensor>,
    declared: Vec<Tensor>,
}

impl Call {
    fn new(program: &Program, sizes: Sizes) -> Self {
        let signature = &program.signature;
        let mut dims = DimEnv::new();
        for symbol in &signature.dims {
            let size = sizes.iter().find(|(name, _)| *name == symbol.name());
            dims.set(symbol.clone(), size.unwrap_or_else(|| panic!("no size for {}", symbol.name())).1);
        }
        let mut draws = Draws(1);
        let inputs: Vec<Tensor> = signature
            .inputs
            .iter()
            .map(|p| draws.tensor(p.ty.dtype, dims.shape(&p.ty.shape).unwrap()))
            .collect();
        let shapes: Vec<&[usize]> = inputs.iter().map(Tensor::shape).collect();
        let dims = bind_dims(signature, &program.checks, &shapes).unwrap();
        let fill = |w: &mdlc::graph::ir::Weight| {
            initialise(&w.init, w.ty.dtype, &dims.shape(&w.ty.shape).unwrap(), &w.path, 7).unwrap()
        };
        let weights = signature.weights.iter().map(fill).collect();
        let sizes = sizes.iter().map(|(name, size)| ((*name).to_string(), *size)).collect();
        let (real, declared) = (Vec::new(), Vec::new());
        let mut call = Call { sizes, inputs, weights, dims, real, declared };
        call.real = call.outputs(program, Mode::F64).unwrap();
        call.declared = call.outputs(program, Mode::Declared).unwrap();
        call
    }

    fn outputs(&self, program: &Program, mode: Mode) -> Result<Vec<Tensor>, String> {
        evaluate(program, &self.inputs, &self.weights, &self.dims, mode).map_err(|e| e.to_string())
    }

    /// Compares with the program as elaborated: in f64 always, and bit by bit in the declared
    /// types where `exact`.
    fn compare(&self, program: &Program, exact: bool) -> Result<(), String> {
        for (found, wanted) in self.outputs(program, Mode::F64)?.iter().zip(&self.real) {
            let (found, wanted) = (reals(found), reals(wanted));
            for (k, (a, b)) in found.iter().zip(&wanted).enumerate() {
                let close = a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= 1e-12 * (1.0 + b.abs());
                if !close {
                    return Err(format!("element {k} is {a}, was {b}"));
                }
            }
        }
        if exact {
            for (found, wanted) in self.outputs(program, Mode::Declared)?.iter().zip(&self.declared) {
                if found.to_le_bytes_vec() != wanted.to_le_bytes_vec() {
                    return Err(format!("bits differ: {:?}, was {:?}", reals(found), reals(wanted)));
                }
            }
        }
        Ok(())
    }
}

fn reals(tensor: &Tensor) -> Vec<f64> {
    match tensor.data() {
        Data::F32(v) => v.iter().map(|x| f64::from(*x)).collect(),
        Data::F64(v) => v.clone(),
        Data::I64(v) => v.iter().map(|x| *x as f64).collect(),
        Data::I32(v) => v.iter().map(|x| f64::from(*x)).collect(),
        Data::Bool(v) => v.iter().map(|x| f64::from(u8::from(*x))).collect(),
    }
}

/// SplitMix64.
struct Draws(u64);

impl Draws {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Reals on `(-2, 2)` with a signed zero now and then; integers `-1..=3`; truth values.
    fn tensor(&mut self, dtype: DType, shape: Vec<usize>) -> Tensor {
        let count: usize = shape.iter().product();
        let mut draws = (0..count).map(|_| self.next());
        let data = match dtype {
            DType::F32 => Data::from(draws.map(real).collect::<Vec<f32>>()),
            DType::I64 => Data::from(draws.map(|u| (u % 5) as i64 - 1).collect::<Vec<i64>>()),
            DType::Bool => Data::from(draws.map(|u| u % 2 == 0).collect::<Vec<bool>>()),
            _ => panic!("no test has inputs of type {dtype}, {:?}", draws.next()),
        };
        Tensor::new(shape, data).unwrap()
    }
}

fn real(draw: u64) -> f32 {
    if draw.is_multiple_of(11) { -0.0 } else { (draw >> 40) as f32 / (1u64 << 22) as f32 - 2.0 }
}

/// Visits every node, those of regions and recurrences included.
pub fn each_node<'a>(graph: &'a Graph, visit: &mut dyn FnMut(&'a Node)) {
    for node in graph.dag.node_weights() {
        visit(node);
        match &node.op {
            Op::Recur(recur) => each_node(&recur.body, visit),
            Op::Region(region) => each_node(&region.body, visit),
            _ => {}
        }
    }
}

/// What `pick` finds in the nodes of all functions.
pub fn collect<'a, T>(program: &'a Program, pick: impl Fn(&'a Op) -> Option<T>) -> Vec<T> {
    let mut found = Vec::new();
    for function in &program.functions {
        each_node(&function.graph, &mut |node| found.extend(pick(&node.op)));
    }
    found
}

/// All nodes but arguments.
pub fn nodes(program: &Program) -> usize {
    collect(program, |op| (!matches!(op, Op::Arg(_))).then_some(())).len()
}

/// All index ops.
pub fn indices(program: &Program) -> Vec<&Index> {
    collect(program, |op| match op {
        Op::Index(index) => Some(index),
        _ => None,
    })
}

/// Number of index ops.
pub fn index_count(program: &Program) -> usize {
    indices(program).len()
}

/// Number of index ops that reduce.
pub fn reductions(program: &Program) -> usize {
    indices(program).into_iter().filter(|index| index.reduce.is_some()).count()
}

/// All products.
pub fn products(program: &Program) -> Vec<&MatMul> {
    collect(program, |op| match op {
        Op::MatMul(product) => Some(product.as_ref()),
        _ => None,
    })
}

/// Number of products.
pub fn product_count(program: &Program) -> usize {
    products(program).len()
}

/// All reductions by key.
pub fn segments(program: &Program) -> Vec<&Segment> {
    collect(program, |op| match op {
        Op::Segment(segment) => Some(segment.as_ref()),
        _ => None,
    })
}

/// Number of reductions by key.
pub fn segment_count(program: &Program) -> usize {
    segments(program).len()
}

/// Number of running reductions.
pub fn scan_count(program: &Program) -> usize {
    collect(program, |op| matches!(op, Op::Scan(_)).then_some(())).len()
}

/// All regions.
pub fn regions(program: &Program) -> Vec<&Region> {
    collect(program, |op| match op {
        Op::Region(region) => Some(region.as_ref()),
        _ => None,
    })
}

/// Kinds of the regions.
pub fn kinds(program: &Program) -> Vec<RegionKind> {
    regions(program).into_iter().map(|region| region.kind).collect()
}

/// All recurrences.
pub fn recurs(program: &Program) -> Vec<&Recur> {
    collect(program, |op| match op {
        Op::Recur(recur) => Some(recur.as_ref()),
        _ => None,
    })
}

/// Nodes in the bodies of recurrences for which `wanted` holds.
pub fn in_bodies(program: &Program, wanted: impl Fn(&Op) -> bool) -> usize {
    let mut count = 0;
    for recur in recurs(program) {
        each_node(&recur.body, &mut |node| count += usize::from(wanted(&node.op)));
    }
    count
}

/// Number of calls.
pub fn calls(program: &Program) -> usize {
    collect(program, |op| matches!(op, Op::Call(_)).then_some(())).len()
}
