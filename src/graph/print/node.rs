//! Nodes as text, an op family at a time.

use super::super::expr::VarId;
use super::super::ir::{
    Axis, Graph, Index, MatMul, Op, Place, Recur, Reduce, Region, RegionKind, Role, Segment, Transform,
    Value, View,
};
use super::expr::{Level, Printed, Scope, print, real_text};
use super::{Names, Printer, cost_text, has_body, name_of, type_text};
use crate::dim::Dim;
use crate::tensor::{Data, Tensor};
use petgraph::stable_graph::NodeIndex;

/// Elements of a constant that are shown.
const CONST_ELEMS: usize = 8;

impl Printer<'_> {
    /// Prints one node and names its results.
    pub(super) fn node(&mut self, graph: &Graph, id: NodeIndex, names: &mut Names, indent: usize) {
        let node = graph.node(id);
        let operands: Vec<String> = graph.operands(id).iter().map(|value| name_of(names, *value)).collect();
        let mut left = Vec::new();
        for (k, _) in node.results.iter().enumerate() {
            let name = match &node.op {
                Op::Recur(recur) => self.fresh(recur.sequences.get(k).map(|s| &s.name)),
                _ => self.fresh(node.name.as_ref()),
            };
            names.insert(Value { node: id, result: k as u32 }, name.clone());
            left.push(name);
        }
        let types: Vec<String> = node.results.iter().map(type_text).collect();
        let typed = |indices: &str| {
            let parts: Vec<_> = left.iter().zip(&types).map(|(n, t)| format!("{n}{indices}: {t}")).collect();
            if parts.len() == 1 { parts.concat() } else { format!("({})", parts.join(", ")) }
        };
        let note = self.cost_note(graph, id);
        let shape = node.results.first().map(|ty| ty.shape.as_slice()).unwrap_or_default();
        let (indices, lets, right) = match &node.op {
            Op::Arg(_) => return,
            Op::Const(tensor) => (String::new(), Vec::new(), format!("const {}", const_text(tensor))),
            Op::Scan(scan) => {
                let from = if scan.reverse { ", from the end" } else { "" };
                let text = format!(
                    "scan {} of {} along axis {}{from}",
                    scan.reducer.name(),
                    operands.join(", "),
                    scan.axis
                );
                (String::new(), Vec::new(), text)
            }
            Op::TopK(k) => (String::new(), Vec::new(), format!("top_k({}, {k})", operands.join(", "))),
            Op::Call(callee) => {
                let name = self.program.functions.get(callee.0 as usize).map_or("?", |f| &f.name);
                (String::new(), Vec::new(), format!("call {name}({})", operands.join(", ")))
            }
            Op::Index(index) => self.index(index, operands, shape),
            Op::Segment(segment) => self.segment(segment, operands, shape),
            Op::MatMul(product) => self.matmul(product, operands, shape),
            Op::Transform(transform) => self.transform(transform, operands, shape),
            Op::Recur(recur) => (String::new(), Vec::new(), self.recur_head(recur)),
            Op::Region(region) => (String::new(), Vec::new(), self.region_head(region)),
        };
        if lets.is_empty() {
            let open = if has_body(&node.op) { " {" } else { "" };
            self.line(indent, &format!("{} = {right}{open}", typed(&indices)), Some(node.span), &note);
        } else {
            self.line(indent, &format!("{} =", typed(&indices)), Some(node.span), &note);
            for (name, text) in lets {
                self.line(indent + 1, &format!("let {name} = {text}"), None, "");
            }
            self.line(indent + 1, &right, None, "");
        }
        match &node.op {
            Op::Recur(recur) => self.recur(recur, &graph.operands(id), names, &left, indent),
            Op::Region(region) => self.region(region, &graph.operands(id), names, indent),
            _ => {}
        }
    }

    fn cost_note(&self, graph: &Graph, id: NodeIndex) -> String {
        let cost = self.costs.as_ref().map(|costs| costs.node(graph, id));
        cost.map_or_else(String::new, cost_text)
    }

    /// Distinct names for the axes of an op, its iterate axes first.
    fn axis_names<'a>(&self, axes: impl IntoIterator<Item = &'a Axis>) -> Vec<String> {
        axes.into_iter().fold(Vec::new(), |mut names, axis| {
            names.push(self.distinct(&axis.name, &names));
            names
        })
    }

    fn index(
        &self,
        index: &Index,
        operands: Vec<String>,
        shape: &[Dim],
    ) -> (String, Vec<(String, String)>, String) {
        let scope =
            self.scope(index.iterate.iter().chain(index.reduce.iter().flat_map(|r| &r.axes)), operands);
        let printed = print(&index.exprs, &index.roots(), &scope);
        let reducer = index.reduce.as_ref().map(|r| r.reducer.name().to_string());
        let right = reduction(index, &printed, &scope, reducer, None);
        (left_indices(&index.iterate, &scope.indices, shape), printed.lets, right)
    }

    fn segment(
        &self,
        segment: &Segment,
        operands: Vec<String>,
        shape: &[Dim],
    ) -> (String, Vec<(String, String)>, String) {
        let index = &segment.index;
        let scope =
            self.scope(index.iterate.iter().chain(index.reduce.iter().flat_map(|r| &r.axes)), operands);
        let mut roots = index.roots();
        roots.push(segment.key);
        let printed = print(&index.exprs, &roots, &scope);
        let axis = scope.indices.get(segment.axis).cloned().unwrap_or_default();
        let key = format!(" by {axis} = {}", printed.root(roots.len() - 1, Level::Add));
        let reducer = index.reduce.as_ref().map(|r| format!("segment_{}", r.reducer.name()));
        let right = reduction(index, &printed, &scope, reducer, Some(key));
        (left_indices(&index.iterate, &scope.indices, shape), printed.lets, right)
    }

    fn matmul(
        &self,
        product: &MatMul,
        operands: Vec<String>,
        shape: &[Dim],
    ) -> (String, Vec<(String, String)>, String) {
        let (lhs, rhs) = match operands.as_slice() {
            [lhs, rhs, ..] => (lhs.clone(), rhs.clone()),
            _ => ("?".to_string(), "?".to_string()),
        };
        let mut scope = self.scope(product.iterate.iter().chain(&product.contract), operands);
        scope.accumulator = Some(0);
        let of = |role: Role| -> String {
            let names = scope.indices.iter().zip(&product.roles).filter(|(_, r)| **r == role);
            names.map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(" ")
        };
        let roles = [("batch", Role::Batch), ("m", Role::M), ("n", Role::N)]
            .map(|(word, role)| (word, of(role)))
            .into_iter()
            .filter(|(_, names)| !names.is_empty())
            .map(|(word, names)| format!("{word} {names}; "));
        let contract = axes_text(&product.contract, &scope.indices[product.iterate.len()..]);
        let view = |view: &View| self.view_text(view, &scope.indices);
        let picked = product.pick.as_ref().map(|pick| {
            let picks = scope.operands.get(2).map_or("?", String::as_str);
            format!(" + {}*{picks}{{{}}}", factor_text(&pick.stride), view(&pick.at))
        });
        let mut right = format!(
            "matmul[{}k {contract}] {lhs}{{{}}} * {rhs}{{{}{}}}",
            roles.collect::<String>(),
            view(&product.lhs),
            view(&product.rhs),
            picked.unwrap_or_default()
        );
        let mut lets = Vec::new();
        if let Some(epilogue) = &product.epilogue {
            let printed = print(&epilogue.exprs, &[epilogue.body], &scope);
            right.push_str(&format!(" then {}", printed.root(0, Level::Or)));
            lets = printed.lets;
        }
        (left_indices(&product.iterate, &scope.indices, shape), lets, right)
    }

    fn transform(
        &self,
        transform: &Transform,
        operands: Vec<String>,
        shape: &[Dim],
    ) -> (String, Vec<(String, String)>, String) {
        let operand = operands.first().cloned().unwrap_or_else(|| "?".to_string());
        let Transform { iterate, made, matrix, source, .. } = transform;
        let extent = Dim::from(matrix.columns as i64);
        let summed = ["u", "v"].map(|name| Axis::new(extent.clone(), name));
        let mut scope = self.scope(iterate.iter().chain(&summed), operands);
        scope.accumulator = Some(0);
        let names = |k: usize| scope.indices.get(k).map_or("?", String::as_str);
        let rows: Vec<String> = matrix.rows().map(row_text).collect();
        let mut right = format!(
            "transform[{} {}; {}] by [{}] {operand}{{{}}}",
            names(made[0]),
            names(made[1]),
            axes_text(&summed, &scope.indices[iterate.len()..]),
            rows.join(", "),
            self.view_text(source, &scope.indices)
        );
        let mut lets = Vec::new();
        if let Some(epilogue) = &transform.epilogue {
            let printed = print(&epilogue.exprs, &[epilogue.body], &scope);
            right.push_str(&format!(" then {}", printed.root(0, Level::Or)));
            lets = printed.lets;
        }
        (left_indices(iterate, &scope.indices, shape), lets, right)
    }

    /// An affine address, `offset + stride*index`.
    fn view_text(&self, view: &View, indices: &[String]) -> String {
        let unknown = |var: &VarId| format!("?v{}", var.0);
        let vars = view
            .vars
            .iter()
            .map(|(var, stride)| (self.vars.get(var).cloned().unwrap_or_else(|| unknown(var)), stride));
        let axes = indices.iter().cloned().zip(view.iterate.iter().chain(&view.contract));
        let mut terms: Vec<String> = vars
            .chain(axes)
            .filter(|(_, stride)| !stride.is(0))
            .map(|(name, stride)| match stride.as_const() {
                Some(1) => name,
                _ => format!("{}*{name}", factor_text(stride)),
            })
            .collect();
        if !view.offset.is(0) || terms.is_empty() {
            terms.insert(0, view.offset.to_string());
        }
        terms.join(" + ")
    }

    fn scope<'s, 'x>(&'s self, axes: impl IntoIterator<Item = &'x Axis>, operands: Vec<String>) -> Scope<'s> {
        Scope { indices: self.axis_names(axes), operands, vars: &self.vars, accumulator: None }
    }

    fn recur_head(&self, recur: &Recur) -> String {
        let end = recur.start.add(&recur.extent).map_or_else(|e| e.to_string(), |d| d.to_string());
        let by = if recur.reverse { " by -1" } else { "" };
        format!("recur {} in {}..{end}{by}", self.distinct(&recur.name, &[]), recur.start)
    }

    fn recur(&mut self, recur: &Recur, operands: &[Value], outer: &Names, left: &[String], indent: usize) {
        let names: Vec<String> = operands.iter().map(|value| name_of(outer, *value)).collect();
        let mut inits = names.iter().skip(recur.captures);
        for ((sequence, name), value) in recur.sequences.iter().zip(left).zip(&recur.body.results) {
            let rank = recur.body.ty(*value).shape.len();
            for (lag, init) in (1..=sequence.lags).zip(&mut inits) {
                let entry = slots(sequence.axis, rank, &init_entry(recur, sequence.lags, lag));
                self.line(indent + 1, &format!("init {name}[{entry}] = {init}"), None, "");
            }
        }
        let args = names.into_iter().take(recur.captures).chain(left.iter().cloned());
        let var = self.distinct(&recur.name, &[]);
        let inner = self.body(&recur.body, args, &[(recur.var, var.clone())], indent);
        for ((sequence, name), value) in recur.sequences.iter().zip(left).zip(&recur.body.results) {
            let rank = recur.body.ty(*value).shape.len();
            let entry = slots(sequence.axis, rank, &step_entry(recur, sequence.lags, &var));
            let text = format!("{name}[{entry}] = {}", name_of(&inner, *value));
            self.line(indent + 1, &text, None, "");
        }
        self.line(indent, "}", None, "");
    }

    fn region_head(&self, region: &Region) -> String {
        let kind = match region.kind {
            RegionKind::Rows => "rows",
            RegionKind::Attention => "attention",
            RegionKind::TiledAttention => "tiled attention",
            RegionKind::BlockedAttention => "blocked attention",
            RegionKind::Tiles => "tiles",
        };
        format!("region {kind}[{}]", axes_text(&region.axes, &self.axis_names(&region.axes)))
    }

    fn region(&mut self, region: &Region, operands: &[Value], outer: &Names, indent: usize) {
        let names: Vec<String> = operands.iter().map(|value| name_of(outer, *value)).collect();
        let loops = self.axis_names(&region.axes);
        let vars: Vec<_> = region.vars.iter().copied().zip(loops.iter().cloned()).collect();
        let inner = self.body(&region.body, names.into_iter(), &vars, indent);
        for (value, places) in region.body.results.iter().zip(&region.places) {
            let at: Vec<String> = places
                .iter()
                .map(|place| match place {
                    Place::Loop(k) => loops.get(*k).cloned().unwrap_or_default(),
                    Place::Slice(k) => format!(":{k}"),
                })
                .collect();
            self.line(
                indent + 1,
                &format!("yield {} at [{}]", name_of(&inner, *value), at.join(", ")),
                None,
                "",
            );
        }
        self.line(indent, "}", None, "");
    }

    /// Prints the body of a region whose arguments have the names `args`.
    fn body(
        &mut self,
        body: &Graph,
        args: impl Iterator<Item = String>,
        vars: &[(VarId, String)],
        indent: usize,
    ) -> Names {
        let mut inner: Names =
            body.args.iter().map(|arg| Value { node: *arg, result: 0 }).zip(args).collect();
        for (var, name) in vars {
            self.vars.insert(*var, name.clone());
            self.reserved.push(name.clone());
        }
        self.graph(body, &mut inner, indent + 1);
        self.reserved.truncate(self.reserved.len() - vars.len());
        inner
    }
}

/// A slice of a sequence, `:` everywhere but on the time axis.
fn slots(axis: usize, rank: usize, time: &str) -> String {
    let mut slots = vec![":"; rank];
    slots.insert(axis.min(rank), time);
    slots.join(", ")
}

/// The entry of a sequence's time axis that holds its initial slice of a lag.
fn init_entry(recur: &Recur, lags: usize, lag: usize) -> String {
    if recur.reverse {
        let entry = recur.extent.add(&Dim::from(lag as i64 - 1));
        entry.map_or_else(|e| e.to_string(), |d| d.to_string())
    } else {
        lags.saturating_sub(lag).to_string()
    }
}

/// The entry of a sequence's time axis that the step at `var` defines.
fn step_entry(recur: &Recur, lags: usize, var: &str) -> String {
    let lags = if recur.reverse { 0 } else { lags };
    match Dim::from(lags as i64).sub(&recur.start) {
        Ok(shift) if shift.is(0) => var.to_string(),
        Ok(shift) => match shift.to_string() {
            text if text.starts_with('-') => format!("{var} - {}", &text[1..]),
            text => format!("{var} + {text}"),
        },
        Err(error) => error.to_string(),
    }
}

/// `guard`, reducer and body as text. The roots of `printed` are those of [`Index::roots`].
fn reduction(
    index: &Index,
    printed: &Printed,
    scope: &Scope,
    reducer: Option<String>,
    key: Option<String>,
) -> String {
    let mut next = 1;
    let mut take = |present: bool, level: Level| {
        present.then(|| {
            next += 1;
            printed.root(next - 1, level)
        })
    };
    let guard = take(index.guard.is_some(), Level::Or);
    let guard = guard.map(|g| format!("if {g}: ")).unwrap_or_default();
    let (Some(reduce), Some(reducer)) = (&index.reduce, reducer) else {
        return format!("{guard}{}", printed.root(0, Level::Or));
    };
    let Reduce { axes, filter, otherwise, .. } = reduce;
    let filter = take(filter.is_some(), Level::Or).map(|f| format!(" where {f}")).unwrap_or_default();
    let otherwise = take(otherwise.is_some(), Level::Or).map(|o| format!(" else {o}")).unwrap_or_default();
    let bound = axes_text(axes, &scope.indices[index.iterate.len()..]);
    let key = key.unwrap_or_default();
    format!("{guard}{reducer}[{bound}{key}{filter}{otherwise}] {}", printed.root(0, Level::Mul))
}

fn axes_text(axes: &[Axis], names: &[String]) -> String {
    let texts: Vec<_> =
        axes.iter().zip(names).map(|(axis, name)| format!("{name}: {}", axis.extent)).collect();
    texts.join(", ")
}

/// The iterate axes as indices of the result: one per axis of its shape, or a group of them.
fn left_indices(iterate: &[Axis], names: &[String], shape: &[Dim]) -> String {
    match grouped(iterate, shape) {
        Some(_) if shape.is_empty() && iterate.is_empty() => String::new(),
        Some(groups) => {
            let text = |range: std::ops::Range<usize>| match range.len() {
                0 => "0".to_string(),
                1 => names[range.start].clone(),
                _ => format!("({})", axes_text(&iterate[range.clone()], &names[range])),
            };
            format!("[{}]", groups.into_iter().map(text).collect::<Vec<_>>().join(", "))
        }
        None => format!("[linear {}]", axes_text(iterate, names)),
    }
}

/// Which iterate axes make up each axis of the shape, where consecutive products show it.
fn grouped(iterate: &[Axis], shape: &[Dim]) -> Option<Vec<std::ops::Range<usize>>> {
    let mut at = 0;
    let mut groups = Vec::new();
    for (k, size) in shape.iter().enumerate() {
        let start = at;
        let mut product = Dim::ONE;
        while product != *size {
            product = product.mul(&iterate.get(at)?.extent).ok()?;
            at += 1;
        }
        // Axes of extent 1 belong to where they are unless the next axis of the shape wants them.
        let next_is_unit = shape.get(k + 1).is_some_and(|d| d.is(1));
        while !next_is_unit && iterate.get(at).is_some_and(|axis| axis.extent.is(1)) {
            at += 1;
        }
        if size.is(1) && at == start && iterate.get(at).is_some_and(|axis| axis.extent.is(1)) {
            at += 1;
        }
        groups.push(start..at);
    }
    (at == iterate.len()).then_some(groups)
}

fn row_text(row: &[f64]) -> String {
    let elements: Vec<String> = row.iter().map(ToString::to_string).collect();
    format!("[{}]", elements.join(", "))
}

fn factor_text(dim: &Dim) -> String {
    if dim.terms().len() > 1 { format!("({dim})") } else { dim.to_string() }
}

fn const_text(tensor: &Tensor) -> String {
    let dtype = tensor.dtype();
    let shown: Vec<String> = match tensor.data() {
        Data::F32(v) => v.iter().take(CONST_ELEMS).map(|x| real_text(f64::from(*x), dtype)).collect(),
        Data::F64(v) => v.iter().take(CONST_ELEMS).map(|x| real_text(*x, dtype)).collect(),
        Data::I32(v) => v.iter().take(CONST_ELEMS).map(ToString::to_string).collect(),
        Data::I64(v) => v.iter().take(CONST_ELEMS).map(ToString::to_string).collect(),
        Data::Bool(v) => v.iter().take(CONST_ELEMS).map(ToString::to_string).collect(),
    };
    let more = if tensor.elems() > CONST_ELEMS { ", .." } else { "" };
    if tensor.shape().is_empty() { shown.concat() } else { format!("[{}{more}]", shown.join(", ")) }
}
