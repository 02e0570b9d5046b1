//! Transposed convolutions as sums over windows.
//!
//! `y[i] = sum[r, u where r*S + u*D + c == i] x[r] * w[u]` says where each product goes. Solved for `r` it
//! says where each result comes from. With `S = 1` that is a window: `x[i - c - u*D]`, zero outside. With
//! `D = 1` results fall into phases: of `i - c = S*m + a` phase `a` takes the taps `u = a + S*t`, each with
//! `x[m - t]`. Over axes `m`, `a` and `t` in place of `i`, `r` and `u` no term is without effect but those
//! outside `x`, and the sum is one of products over a window, or over a single element where there are as
//! many taps as phases.
//!
//! Phases have one number of taps or two; with two each makes a sum of its own. Where `i` is `S*m + a` as it
//! is, and there is one sum, it takes the place of the old one; else the results are read from what is
//! summed. A filter that holds anything else, or strides that share neither form, stay as they are.

use super::Changed;
use super::matmul::inner_factors;
use super::simplify::simplify_index;
use super::walk::{Vars, for_each_graph};
use crate::dim::Dim;
use crate::dtype::DType;
use crate::graph::affine::{Affine, Leaf, Ranges, affine, build};
use crate::graph::expr::{Expr, ExprId, Exprs, Read};
use crate::graph::ir::{Axis, Graph, Index, Op, Program, Reduce, TensorType, Value};
use crate::graph::keys::conjuncts;
use crate::ops::reduce::Reducer;
use crate::ops::scalar::BinaryOp;
use petgraph::stable_graph::NodeIndex;

/// The highest rank of a value.
const MAX_RANK: usize = 8;

/// Solves the filters of transposed convolutions, in every graph.
pub fn solve_windows(program: &mut Program) -> Changed {
    let mut changed = false;
    for_each_graph(program, &mut |graph, vars| {
        for id in graph.topological() {
            changed |= solve(graph, id, vars).is_some();
        }
    });
    Changed::from(changed)
}

/// `i == source * stride + tap * dilation + offset`, for one axis of the result.
struct Equation {
    /// The index of the result.
    result: usize,
    /// The index of the operand that is spread, and how far its elements are spread.
    source: usize,
    stride: i64,
    /// The index of the taps, if there are several, and how far they lie apart.
    tap: Option<usize>,
    dilation: i64,
    offset: i64,
}

/// What takes the place of an equation.
struct Solution {
    equation: Equation,
    form: Form,
}

enum Form {
    /// The result's index stays: windows move along it.
    Window,
    /// Positions `m` of all phases, from `first` on, and the phases by their numbers of taps.
    Phases { first: i64, count: Dim, groups: Vec<Group> },
}

/// Neighbouring phases with equally many taps.
#[derive(Clone, Copy)]
struct Group {
    first: i64,
    phases: i64,
    taps: i64,
}

fn solve(graph: &mut Graph, id: NodeIndex, vars: &Vars) -> Option<()> {
    let Op::Index(index) = &graph.node(id).op else { return None };
    let index = index.clone();
    let equations = equations(&index)?;
    let types: Vec<TensorType> =
        graph.operands(id).into_iter().map(|value| graph.ty(value).clone()).collect();
    if !reads_are_inside(&index, &types, vars) {
        return None;
    }
    let mut solutions = Vec::with_capacity(equations.len());
    for equation in equations {
        let form = form(&index, &equation)?;
        solutions.push(Solution { equation, form });
    }
    if solutions.iter().all(|solution| is_direct(&index, solution)) {
        let chosen: Vec<Option<Group>> = solutions.iter().map(|s| s.form.groups().first().copied()).collect();
        let summed = Summed::new(&index, &solutions, &chosen, true)?;
        graph.dag[id].op = Op::Index(summed.simplified(&types, vars));
        return Some(());
    }
    in_phases(graph, id, &index, &solutions, vars)
}

/// The equations of a sum of products whose filter is nothing else.
fn equations(index: &Index) -> Option<Vec<Equation>> {
    let reduce = index.reduce.as_ref()?;
    let plain = index.guard.is_none() && reduce.otherwise.is_none() && reduce.reducer == Reducer::Sum;
    if !plain || index.result_dtype() != DType::F32 {
        return None;
    }
    let (reads, _) = inner_factors(index).filter(|(_, scales)| scales.is_empty())?;
    let conditions = conjuncts(index);
    let found: Option<Vec<Equation>> =
        conditions.iter().map(|condition| equation(index, &reads, *condition)).collect();
    let found = found.filter(|found| !found.is_empty())?;
    let mut used: Vec<usize> =
        found.iter().flat_map(|e| [e.result, e.source].into_iter().chain(e.tap)).collect();
    used.sort_unstable();
    // No index in two equations.
    used.windows(2).all(|pair| pair[0] != pair[1]).then_some(found)
}

/// Whether everything that is read is known to be there, so that a border is all that is outside later.
fn reads_are_inside(index: &Index, types: &[TensorType], vars: &Vars) -> bool {
    let ranges = Ranges { indices: index.extents(), vars: vars.clone() };
    let needed = index.exprs.reachable(&[index.body]);
    index.exprs.iter().filter(|(id, ..)| needed[id.0 as usize]).all(|(_, expr, _)| match expr {
        Expr::Read(read) => {
            let shape = types.get(read.port as usize).map_or(&[][..], |ty| &ty.shape);
            let inside = |(at, extent): (&ExprId, &Dim)| ranges.of(&index.exprs, *at).is_within(extent);
            read.index.iter().zip(shape).all(inside)
        }
        _ => true,
    })
}

fn equation(index: &Index, reads: &[Read; 2], condition: ExprId) -> Option<Equation> {
    let Expr::Binary(BinaryOp::Eq, a, b) = index.exprs.get(condition) else { return None };
    let difference = affine(&index.exprs, *a)?.add(&affine(&index.exprs, *b)?.scale(&Dim::from(-1))?)?;
    let outer = index.iterate.len();
    let mut terms = Vec::with_capacity(3);
    for (leaf, coefficient) in &difference.terms {
        let Leaf::Index(k) = leaf else { return None };
        terms.push((*k as usize, coefficient.as_const()?));
    }
    // Result indices come first.
    let ((result, sign), reduced) = terms.split_first().map(|(first, rest)| (*first, rest))?;
    if result >= outer || sign.abs() != 1 || reduced.iter().any(|(k, _)| *k < outer) {
        return None;
    }
    // i*sign + rest == 0, so i == -sign*rest.
    let turned = |value: i64| value.checked_mul(-sign);
    let offset = turned(difference.constant.as_const()?)?;
    let reduced: Option<Vec<(usize, i64)>> =
        reduced.iter().map(|(k, coefficient)| Some((*k, turned(*coefficient)?))).collect();
    let candidate = |(source, stride): (usize, i64), tap: Option<(usize, i64)>| {
        let (tap, dilation) = (tap.map(|(k, _)| k), tap.map_or(1, |(_, dilation)| dilation));
        let equation = Equation { result, source, stride, tap, dilation, offset };
        is_solvable(index, reads, &equation).map(|taps| (taps, equation))
    };
    let mut found: Vec<(i64, Equation)> = match reduced?[..] {
        [one] => candidate(one, None).into_iter().collect(),
        [one, other] => {
            [candidate(one, Some(other)), candidate(other, Some(one))].into_iter().flatten().collect()
        }
        _ => return None,
    };
    // The taps are the fewer; of as many, those that are not spread.
    found.sort_by_key(|(taps, equation)| (*taps, equation.dilation));
    found.into_iter().next().map(|(_, equation)| equation)
}

/// The number of taps, if the indices of an equation are those of a transposed convolution: each walks an
/// axis of its own, source and taps in different operands, and the result's index nothing but the result.
fn is_solvable(index: &Index, reads: &[Read; 2], equation: &Equation) -> Option<i64> {
    let source = stands_alone(index, reads, equation.source)?;
    let taps = match equation.tap {
        None => 1,
        Some(tap) => {
            let other = stands_alone(index, reads, tap)?;
            index.extents()[tap].as_const().filter(|taps| *taps >= 1 && source != other)?
        }
    };
    let spread = equation.stride >= 1 && equation.dilation >= 1;
    let fits = spread && (equation.stride == 1 || equation.dilation == 1);
    (fits && !uses(index, reads, equation.result)).then_some(taps)
}

/// Which of the reads has an axis that an index alone walks, if nothing else uses the index.
fn stands_alone(index: &Index, reads: &[Read; 2], k: usize) -> Option<usize> {
    let mut found = None;
    for (at, read) in reads.iter().enumerate() {
        for expr in &read.index {
            let form = affine(&index.exprs, *expr)?;
            if form.as_leaf() == Some(Leaf::Index(k as u32)) && found.is_none() {
                found = Some(at);
            } else if index.exprs.contain(&[*expr], |expr| *expr == Expr::Index(k as u32)) {
                return None;
            }
        }
    }
    found
}

fn uses(index: &Index, reads: &[Read; 2], k: usize) -> bool {
    let all: Vec<ExprId> = reads.iter().flat_map(|read| &read.index).copied().collect();
    index.exprs.contain(&all, |expr| *expr == Expr::Index(k as u32))
}

fn form(index: &Index, equation: &Equation) -> Option<Form> {
    let stride = equation.stride;
    if stride == 1 {
        return Some(Form::Window);
    }
    let extents = index.extents();
    let taps = equation.tap.map_or(Some(1), |tap| extents[tap].as_const())?;
    let most = (taps + stride - 1) / stride;
    let full = taps - stride * (most - 1);
    let mut groups = vec![Group { first: 0, phases: full, taps: most }];
    if full < stride {
        groups.push(Group { first: full, phases: stride - full, taps: most - 1 });
    }
    let start = equation.offset.checked_neg()?;
    let first = start.div_euclid(stride);
    let by = Dim::from(stride);
    let extent = &extents[equation.result];
    let count = match extent.exact_div(&by) {
        Some(count) if start == 0 => count,
        _ => {
            let last = extent.add(&Dim::from(start.checked_sub(1)?)).ok()?;
            last.floor_div(&by).and_then(|last| last.add(&Dim::from(1 - first))).ok()?
        }
    };
    Some(Form::Phases { first, count, groups })
}

impl Form {
    fn groups(&self) -> &[Group] {
        match self {
            Form::Window => &[],
            Form::Phases { groups, .. } => groups,
        }
    }
}

/// Whether the sum can stand where the old one did.
fn is_direct(index: &Index, Solution { equation, form }: &Solution) -> bool {
    match form {
        Form::Window => true,
        Form::Phases { count, groups, .. } => {
            let whole = count.mul(&Dim::from(equation.stride));
            let extent = &index.iterate[equation.result].extent;
            equation.offset == 0 && groups.len() == 1 && whole.is_ok_and(|whole| whole == *extent)
        }
    }
}

/// A sum over windows for one choice of phases.
struct Summed {
    index: Index,
}

impl Summed {
    /// The sum with `m` and `a` in place of each index that has phases, both where it stood or, for a value
    /// of its own, the phases first.
    fn new(
        index: &Index,
        solutions: &[Solution],
        chosen: &[Option<Group>],
        in_place: bool,
    ) -> Option<Summed> {
        let reduce = index.reduce.as_ref()?;
        let outer = index.iterate.len();
        let solution_of = |k: usize, part: fn(&Equation) -> Option<usize>| {
            solutions.iter().position(|solution| part(&solution.equation) == Some(k))
        };
        let mut iterate: Vec<Axis> = Vec::new();
        let mut places = vec![0; outer + reduce.axes.len()];
        let mut phases = vec![0; solutions.len()];
        let phased: Vec<(usize, Group)> =
            chosen.iter().enumerate().filter_map(|(at, group)| Some((at, (*group)?))).collect();
        let phase = |at: usize, group: Group| {
            let name = index.iterate[solutions[at].equation.result].name.clone();
            Axis { extent: Dim::from(group.phases), name }
        };
        if !in_place {
            for (at, group) in &phased {
                phases[*at] = iterate.len();
                iterate.push(phase(*at, *group));
            }
        }
        for (k, axis) in index.iterate.iter().enumerate() {
            places[k] = iterate.len();
            let solution = solution_of(k, |equation| Some(equation.result));
            match solution.map(|at| (at, &solutions[at].form, chosen[at])) {
                Some((at, Form::Phases { count, .. }, Some(group))) => {
                    iterate.push(Axis { extent: count.clone(), name: axis.name.clone() });
                    if in_place {
                        phases[at] = iterate.len();
                        iterate.push(phase(at, group));
                    }
                }
                _ => iterate.push(axis.clone()),
            }
        }
        let mut axes = Vec::new();
        for (k, axis) in reduce.axes.iter().enumerate() {
            if solution_of(outer + k, |equation| Some(equation.source)).is_some() {
                continue;
            }
            places[outer + k] = iterate.len() + axes.len();
            let taps = solution_of(outer + k, |equation| equation.tap).and_then(|at| chosen[at]);
            let extent = taps.map_or_else(|| axis.extent.clone(), |group| Dim::from(group.taps));
            axes.push(Axis { extent, name: axis.name.clone() });
        }
        let mut exprs = Exprs::new();
        let body = exprs.map(&index.exprs, &[index.body], &mut |out, expr, dtype| {
            let Expr::Index(k) = expr else { return with_border(out, expr, dtype) };
            let k = k as usize;
            let at = |k: usize| Affine::leaf(Leaf::Index(places[k] as u32));
            let solved = solutions.iter().enumerate().find_map(|(at_solution, solution)| {
                let phase = Affine::leaf(Leaf::Index(phases[at_solution] as u32));
                solved(solution, chosen[at_solution], k, (&at, phase))
            });
            match solved {
                Some(form) => build(out, &form),
                None => out.index(places[k]),
            }
        })[0];
        let sum = Reduce { axes, filter: None, ..reduce.clone() };
        Some(Summed { index: Index { iterate, guard: None, reduce: Some(sum), exprs, body } })
    }

    fn simplified(self, types: &[TensorType], vars: &Vars) -> Index {
        let mut index = self.index;
        let ranges = Ranges { indices: index.extents(), vars: vars.clone() };
        simplify_index(&mut index, &ranges, types);
        index
    }
}

/// The expression; a read with zero for what lies outside.
fn with_border(out: &mut Exprs, expr: Expr, dtype: DType) -> ExprId {
    let Expr::Read(mut read) = expr else { return out.add(expr, dtype) };
    if dtype == DType::F32 && read.otherwise.is_none() {
        read.otherwise = Some(out.real(0.0, dtype));
    }
    out.add(Expr::Read(read), dtype)
}

/// What index `k` of the old sum is in the new one, where an equation involves it.
fn solved(
    Solution { equation, form }: &Solution,
    chosen: Option<Group>,
    k: usize,
    (at, phase): (&dyn Fn(usize) -> Affine, Affine),
) -> Option<Affine> {
    let constant = |value: i64| Affine::constant(Dim::from(value));
    let taps = |step: i64| match equation.tap {
        Some(tap) => at(tap).scale(&Dim::from(step)),
        None => Some(constant(0)),
    };
    match (form, chosen) {
        (Form::Phases { first, .. }, Some(_)) if k == equation.source => {
            at(equation.result).add(&constant(*first))?.add(&taps(-1)?)
        }
        (Form::Phases { .. }, Some(group)) if Some(k) == equation.tap => {
            phase.add(&constant(group.first))?.add(&taps(equation.stride)?)
        }
        (Form::Window, _) if k == equation.source => {
            let offset = constant(equation.offset.checked_neg()?);
            at(equation.result).add(&offset)?.add(&taps(-equation.dilation)?)
        }
        _ => None,
    }
}

/// Sums for all choices of phases, and the result read from them.
fn in_phases(
    graph: &mut Graph,
    id: NodeIndex,
    index: &Index,
    solutions: &[Solution],
    vars: &Vars,
) -> Option<()> {
    let phased = solutions.iter().filter(|solution| !solution.form.groups().is_empty()).count();
    if index.iterate.len() + phased > MAX_RANK {
        return None;
    }
    let operands = graph.operands(id);
    let types: Vec<TensorType> = operands.iter().map(|value| graph.ty(*value).clone()).collect();
    let node = graph.node(id);
    let (span, name) = (node.span, node.name.clone());
    let mut read = Phases { index, solutions, exprs: Exprs::new(), sums: Vec::new(), span };
    let mut sums = Vec::new();
    for chosen in choices(solutions) {
        if chosen.iter().flatten().any(|group| group.taps == 0) {
            read.sums.push((chosen, None));
            continue;
        }
        read.sums.push((chosen.clone(), Some(sums.len() as u32)));
        sums.push(Summed::new(index, solutions, &chosen, false)?.simplified(&types, vars));
    }
    let body = read.body()?;
    let exprs = read.exprs;
    let mut values = Vec::with_capacity(sums.len());
    for sum in sums {
        let shape = sum.iterate.iter().map(|axis| axis.extent.clone()).collect();
        values.push(graph.add_index(sum, shape, &operands, span, name.clone()));
    }
    let iterate = index.iterate.clone();
    let mut result = Index { iterate, guard: None, reduce: None, exprs, body };
    let types: Vec<TensorType> = values.iter().map(|value: &Value| graph.ty(*value).clone()).collect();
    let ranges = Ranges { indices: result.extents(), vars: vars.clone() };
    simplify_index(&mut result, &ranges, &types);
    let values = super::fuse::compact_ports(&mut result, &values);
    graph.dag[id].op = Op::Index(result);
    graph.set_operands(id, &values);
    Some(())
}

/// A group of phases for each solution that has any, in all combinations.
fn choices(solutions: &[Solution]) -> Vec<Vec<Option<Group>>> {
    let mut all = vec![Vec::new()];
    for solution in solutions {
        let groups: Vec<Option<Group>> = match solution.form.groups() {
            [] => vec![None],
            groups => groups.iter().copied().map(Some).collect(),
        };
        let extended = |so_far: Vec<Option<Group>>| {
            groups
                .iter()
                .map(move |group| so_far.iter().copied().chain([*group]).collect::<Vec<_>>())
                .collect::<Vec<_>>()
        };
        all = all.into_iter().flat_map(extended).collect();
    }
    all
}

/// The result as it is read from sums over phases.
struct Phases<'a> {
    index: &'a Index,
    solutions: &'a [Solution],
    exprs: Exprs,
    /// The sum of each choice, by its operand; none where there are no taps.
    sums: Vec<(Vec<Option<Group>>, Option<u32>)>,
    span: crate::span::Span,
}

impl Phases<'_> {
    fn body(&mut self) -> Option<ExprId> {
        let mut value = None;
        for (chosen, operand) in std::mem::take(&mut self.sums) {
            let mine = match operand {
                Some(port) => self.read(port, &chosen)?,
                None => self.exprs.real(0.0, DType::F32),
            };
            value = Some(match value {
                None => mine,
                Some(so_far) => {
                    let is_mine = self.is_among(&chosen)?;
                    self.exprs.select(is_mine, mine, so_far)
                }
            });
        }
        value
    }

    /// `i - c` of a solution, counted from its first position: `S*m + a`.
    fn place(&mut self, at: usize) -> Option<ExprId> {
        let Solution { equation, form } = &self.solutions[at];
        let Form::Phases { first, .. } = form else { return None };
        let moved = equation.offset.checked_add(first.checked_mul(equation.stride)?)?.checked_neg()?;
        let form =
            Affine::leaf(Leaf::Index(equation.result as u32)).add(&Affine::constant(Dim::from(moved)))?;
        Some(build(&mut self.exprs, &form))
    }

    fn digit(&mut self, at: usize, op: BinaryOp) -> Option<ExprId> {
        let place = self.place(at)?;
        let stride = self.exprs.int(self.solutions[at].equation.stride);
        Some(self.exprs.binary(op, place, stride))
    }

    fn read(&mut self, port: u32, chosen: &[Option<Group>]) -> Option<ExprId> {
        let mut index = Vec::with_capacity(MAX_RANK);
        for (at, group) in chosen.iter().enumerate().filter_map(|(at, group)| Some((at, (*group)?))) {
            let phase = self.digit(at, BinaryOp::Mod)?;
            let first = self.exprs.int(group.first);
            let phase = self.exprs.binary(BinaryOp::Sub, phase, first);
            let (zero, last) = (self.exprs.int(0), self.exprs.int(group.phases - 1));
            // Kept inside where another sum is read.
            let phase = self.exprs.binary(BinaryOp::Max, phase, zero);
            index.push(self.exprs.binary(BinaryOp::Min, phase, last));
        }
        for k in 0..self.index.iterate.len() {
            let solution = self.solutions.iter().position(|solution| solution.equation.result == k);
            index.push(match solution {
                Some(at) if chosen[at].is_some() => self.digit(at, BinaryOp::FloorDiv)?,
                _ => self.exprs.index(k),
            });
        }
        let read = Read { port, index, otherwise: None, span: self.span };
        Some(self.exprs.add(Expr::Read(read), DType::F32))
    }

    /// Whether the phases of the current point are those of a choice.
    fn is_among(&mut self, chosen: &[Option<Group>]) -> Option<ExprId> {
        let mut all = self.exprs.bool(true);
        for (at, group) in chosen.iter().enumerate().filter_map(|(at, group)| Some((at, (*group)?))) {
            let (phase, first) = (self.digit(at, BinaryOp::Mod)?, self.exprs.int(group.first));
            let after = self.exprs.int(group.first + group.phases);
            let reached = self.exprs.binary(BinaryOp::Ge, phase, first);
            let before = self.exprs.binary(BinaryOp::Lt, phase, after);
            all = self.exprs.binary(BinaryOp::And, all, reached);
            all = self.exprs.binary(BinaryOp::And, all, before);
        }
        Some(all)
    }
}
