//! The printed form of the graph: what `--emit graph` and `--emit fused` show.
//!
//! Takes a verified [`Program`] and gives text that is canonical: values are numbered in the
//! canonical order of [`Graph::topological`], whatever their node ids are. Every value names its
//! type and the source line it comes from. An index op is index notation:
//!
//! ```text
//! %5.y[b, t, o]: f32[B, T, 4*D] = sum[i: D] %1[b, t, i] * %2[o, i]  # ffn.mdl:12
//! ```
//!
//! The indices on the left are the op's `iterate` axes, grouped as `(h: H, d: D)` where several
//! make up one axis of the result. Inside a recurrence or a region, captured operands keep the
//! name they have outside, and a sequence that is being defined has the name of its result.

mod expr;
mod label;
mod node;
#[cfg(test)]
mod tests;

pub use label::number;

use super::cost::{Cost, Costs};
use super::expr::{ExprId, VarId};
use super::ir::{
    DimCheck, DimCondition, FuncId, Function, Graph, Index, Init, Op, Port, Program, Signature, TensorType,
    Value, Weight,
};
use crate::dim::DimError;
use crate::source::SourceMap;
use crate::span::Span;
use label::order;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

/// What to show besides the values.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// The cost of each node, and of the whole.
    pub cost: bool,
}

/// A program as text; places are looked up in `sources`.
pub fn print(program: &Program, sources: &SourceMap, options: Options) -> String {
    let mut printer = Printer {
        program,
        sources,
        costs: options.cost.then(|| Costs::of(program)),
        out: String::new(),
        vars: BTreeMap::new(),
        reserved: program.signature.dims.iter().map(|s| s.name().to_string()).collect(),
        next: 0,
    };
    printer.signature(&program.signature);
    for check in &program.checks {
        printer.check(check);
    }
    for (id, function) in program.functions.iter().enumerate() {
        let id = FuncId(id as u32);
        let role = match id {
            id if id == program.entry => "entry ",
            id if program.bind == Some(id) => "bind ",
            _ => "",
        };
        printer.function(id, function, role);
    }
    printer.out
}

fn cost_text(cost: Result<Cost, DimError>) -> String {
    cost.map_or_else(|error| error.to_string(), |cost| cost.to_string())
}

/// A type as text: `f32[B, 2*T]`.
pub fn type_text(ty: &TensorType) -> String {
    let shape: Vec<_> = ty.shape.iter().map(ToString::to_string).collect();
    format!("{}[{}]", ty.dtype, shape.join(", "))
}

/// An expression of an index op as text, its operands under these names.
pub fn expression_text(op: &Index, id: ExprId, operands: Vec<String>) -> String {
    let axes = op.iterate.iter().chain(op.reduce.iter().flat_map(|reduce| &reduce.axes));
    let indices = axes.map(|axis| axis.name.to_string()).collect();
    let scope = expr::Scope { indices, operands, vars: &BTreeMap::new(), accumulator: None };
    let printed = expr::print(&op.exprs, &[id], &scope);
    let lets =
        printed.lets.iter().fold(String::new(), |text, (name, value)| format!("{text}; {name} = {value}"));
    format!("{}{lets}", printed.root(0, expr::Level::Or))
}

/// A condition as text: `B <= T and not T == 0`.
pub fn condition_text(condition: &DimCondition) -> String {
    let inner = |c: &DimCondition| match c {
        DimCondition::And(..) | DimCondition::Or(..) => format!("({})", condition_text(c)),
        _ => condition_text(c),
    };
    match condition {
        DimCondition::Eq(a, b) => format!("{a} == {b}"),
        DimCondition::Le(a, b) => format!("{a} <= {b}"),
        DimCondition::Lt(a, b) => format!("{a} < {b}"),
        DimCondition::Not(a) => format!("not {}", inner(a)),
        DimCondition::And(a, b) => format!("{} and {}", inner(a), inner(b)),
        DimCondition::Or(a, b) => format!("{} or {}", inner(a), inner(b)),
    }
}

/// The names of the values of one graph.
type Names = BTreeMap<Value, String>;

struct Printer<'a> {
    program: &'a Program,
    sources: &'a SourceMap,
    /// Where costs are to be shown.
    costs: Option<Costs>,
    out: String,
    /// Names of the enclosing positions.
    vars: BTreeMap<VarId, String>,
    /// Names that no index may have: those of the dimensions and of enclosing positions.
    reserved: Vec<String>,
    /// The next value number.
    next: usize,
}

impl Printer<'_> {
    fn signature(&mut self, signature: &Signature) {
        self.line(0, &format!("program {}", signature.name), None, "");
        if !signature.dims.is_empty() {
            let dims: Vec<_> = signature.dims.iter().map(super::super::dim::Symbol::name).collect();
            self.line(0, &format!("dims {}", dims.join(", ")), None, "");
        }
        for Port { name, ty, span } in &signature.inputs {
            self.line(0, &format!("input {name}: {}", type_text(ty)), Some(*span), "");
        }
        for weight in &signature.weights {
            self.weight(weight);
        }
        for Port { name, ty, span } in &signature.outputs {
            self.line(0, &format!("output {name}: {}", type_text(ty)), Some(*span), "");
        }
    }

    fn weight(&mut self, weight: &Weight) {
        let kind = if weight.buffer { "buffer" } else { "weight" };
        let init = match &weight.init {
            Init::Fill(value) => format!("fill({value:?})"),
            Init::Uniform(bound) => format!("uniform({bound:?})"),
            Init::Normal(deviation) => format!("normal({deviation:?})"),
            Init::KaimingUniform => "kaiming_uniform()".into(),
            Init::XavierUniform => "xavier_uniform()".into(),
            Init::Eye => "eye()".into(),
        };
        let aliases: String = weight.aliases.iter().map(|alias| format!(" tie {alias}")).collect();
        let text = format!("{kind} {}: {} = {init}{aliases}", weight.path, type_text(&weight.ty));
        self.line(0, &text, Some(weight.span), "");
    }

    fn check(&mut self, check: &DimCheck) {
        let text = format!("check {}, {:?}", condition_text(&check.condition), check.message);
        self.line(0, &text, Some(check.span), "");
    }

    fn function(&mut self, id: FuncId, function: &Function, role: &str) {
        self.next = 0;
        let mut names = Names::new();
        let mut args = Vec::new();
        for arg in &function.graph.args {
            let node = function.graph.node(*arg);
            let name = self.fresh(node.name.as_ref());
            args.push(format!("{name}: {}", node.results.first().map(type_text).unwrap_or_default()));
            names.insert(Value { node: *arg, result: 0 }, name);
        }
        let types: Vec<_> =
            function.graph.results.iter().map(|value| type_text(function.graph.ty(*value))).collect();
        let cost = self.costs.as_ref().map(|costs| costs.function(id));
        let cost = cost.map_or_else(String::new, cost_text);
        self.out.push('\n');
        let head = format!("{role}fn {}({}) -> ({}) {{", function.name, args.join(", "), types.join(", "));
        self.line(0, &head, None, &cost);
        self.graph(&function.graph, &mut names, 1);
        let results: Vec<_> = function.graph.results.iter().map(|value| name_of(&names, *value)).collect();
        self.line(1, &format!("return {}", results.join(", ")), None, "");
        self.line(0, "}", None, "");
    }

    fn graph(&mut self, graph: &Graph, names: &mut Names, indent: usize) {
        for id in order(graph) {
            self.node(graph, id, names, indent);
        }
    }

    /// A fresh value name, with the user's name as a suffix.
    fn fresh(&mut self, suffix: Option<&Arc<str>>) -> String {
        let number = self.next;
        self.next += 1;
        match suffix {
            Some(name) => format!("%{number}.{name}"),
            None => format!("%{number}"),
        }
    }

    /// `name`, or `name` with a number, such that neither `reserved` nor `taken` holds it.
    fn distinct(&self, name: &str, taken: &[String]) -> String {
        let base = if name.is_empty() { "i" } else { name };
        let free = |name: &String| !taken.contains(name) && !self.reserved.contains(name);
        let numbered = (2usize..).map(|k| format!("{base}{k}"));
        std::iter::once(base.to_string()).chain(numbered).find(free).unwrap_or_default()
    }

    fn line(&mut self, indent: usize, text: &str, span: Option<Span>, note: &str) {
        let _ = write!(self.out, "{:width$}{text}", "", width = indent * 4);
        let known = |span: &Span| self.sources.files().get(span.file.0 as usize).is_some();
        let place = span.filter(known).map(|span| self.sources.place(span)).unwrap_or_default();
        let comment = [place.as_str(), note].iter().filter(|s| !s.is_empty()).copied().collect::<Vec<_>>();
        if !comment.is_empty() {
            let _ = write!(self.out, "  # {}", comment.join("; "));
        }
        self.out.push('\n');
    }
}

fn name_of(names: &Names, value: Value) -> String {
    names.get(&value).cloned().unwrap_or_else(|| format!("?{}.{}", value.node.index(), value.result))
}

/// Whether printing an op opens a block of its own.
fn has_body(op: &Op) -> bool {
    matches!(op, Op::Recur(_) | Op::Region(_))
}
