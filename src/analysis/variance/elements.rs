//! One index op: the form of its element, from the forms of its operands.
//!
//! What nothing random decides is tabulated: constants, conditions of positions, paddings. All else
//! becomes a form, operands first.

use super::coord::{Atom, Coord};
use super::expect::{MAX_TABLE, advance};
use super::form::{Form, Variable};
use super::fun::{Fun, binary, real};
use super::moments::Axes;
use super::world::{Kind, World};
use crate::dtype::DType;
use crate::graph::dims::DimEnv;
use crate::graph::expr::{Expr, ExprId, Exprs, Literal, Read, VarId};
use crate::graph::ir::Index;
use crate::ops::reduce::Reducer;
use crate::ops::scalar::{BinaryOp, UnaryOp};
use crate::ops::value::{Scalar, apply_binary, apply_unary, cast};
use std::collections::BTreeMap;

/// What a value of a graph is.
#[derive(Clone, Debug)]
pub(super) enum Meaning {
    /// Reals and truth values.
    Real(Form),
    /// Integers that data decide.
    Data(u32),
    /// A sequence under way: its axis of time, and the entries that there are.
    Steps(usize, BTreeMap<i64, Form>),
}

/// An op under evaluation.
pub(super) struct Elements<'a> {
    pub world: &'a mut World,
    pub dims: &'a DimEnv,
    pub vars: &'a BTreeMap<VarId, i64>,
    pub index: &'a Index,
    pub operands: &'a [Meaning],
    /// Sizes of the operands.
    pub shapes: &'a [Vec<i64>],
    /// Sizes of all axes, iterate axes first.
    pub sizes: &'a [i64],
    /// A number for data that nothing else has.
    pub fresh: &'a mut u32,
    known: Vec<bool>,
    /// Where what is reduced to its greatest or least is no padding, if it has some.
    inside: Option<Form>,
    forms: BTreeMap<ExprId, Form>,
    coords: BTreeMap<ExprId, Coord>,
}

/// What an op is evaluated with.
pub(super) struct Setting<'a> {
    pub world: &'a mut World,
    pub dims: &'a DimEnv,
    pub vars: &'a BTreeMap<VarId, i64>,
    pub operands: &'a [Meaning],
    pub shapes: &'a [Vec<i64>],
    pub fresh: &'a mut u32,
}

/// The form of an op's element over its iterate axes; `None` for integers that data decide.
pub(super) fn element(index: &Index, sizes: &[i64], setting: Setting<'_>) -> Option<Form> {
    let Setting { world, dims, vars, operands, shapes, fresh } = setting;
    let mut elements = Elements {
        world,
        dims,
        vars,
        index,
        operands,
        shapes,
        sizes,
        fresh,
        known: Vec::new(),
        inside: None,
        forms: BTreeMap::new(),
        coords: BTreeMap::new(),
    };
    elements.find_known();
    if index.result_dtype().is_int() {
        let decided = index.reduce.is_none() && elements.known[index.body.0 as usize];
        return decided.then(|| elements.tabulated(index.body));
    }
    Some(elements.result())
}

impl Elements<'_> {
    fn exprs(&self) -> &Exprs {
        &self.index.exprs
    }

    /// Marks what nothing random decides.
    fn find_known(&mut self) {
        for (id, expr, _) in self.index.exprs.iter() {
            let parts = self.index.exprs.operands(id).into_iter().all(|part| self.known[part.0 as usize]);
            let own = match expr {
                Expr::Read(read) => match &self.operands[read.port as usize] {
                    Meaning::Real(form) => match form.as_variable() {
                        Some(v) => self.world.is_numbers(v),
                        None => form.as_constant().is_some(),
                    },
                    _ => false,
                },
                _ => true,
            };
            self.known.push(parts && own);
        }
    }

    fn result(&mut self) -> Form {
        let index = self.index;
        let kept = index.iterate.len();
        let term = self.form(index.body);
        let Some(reduce) = &index.reduce else { return self.world.simplified(&term, self.sizes) };
        let filter = match reduce.filter {
            Some(filter) if !self.known[filter.0 as usize] => {
                return self.world.unknown("data decide what is reduced");
            }
            Some(filter) => Some(self.form(filter)),
            None => None,
        };
        if reduce.otherwise.is_some() && filter.is_some() {
            return self.world.unknown("a reduction that may be over nothing");
        }
        match (reduce.reducer, filter) {
            (Reducer::Sum, filter) => {
                let term = match filter {
                    Some(filter) => term.by(&filter, &mut self.world.funs).unwrap_or_default(),
                    None => term,
                };
                let term = self.world.simplified(&term, self.sizes);
                self.world.sum(&term, self.sizes, kept)
            }
            (reducer @ (Reducer::Max | Reducer::Min), filter) => {
                let term = self.world.simplified(&term, self.sizes);
                let among = match (filter, self.inside.take()) {
                    (Some(a), Some(b)) => Some(self.product(&a, &b)),
                    (a, b) => a.or(b),
                };
                let among = among.map(|form| self.world.simplified(&form, self.sizes));
                let sign = if reducer == Reducer::Max { 1.0 } else { -1.0 };
                self.world.extreme(&term, among.as_ref(), self.sizes, kept, sign)
            }
            (reducer, _) => self.world.unknown(&format!("no rule for `{}` here", reducer.name())),
        }
    }

    /// The form of a real or a truth value.
    fn form(&mut self, root: ExprId) -> Form {
        let needed = self.exprs().reachable(&[root]);
        for (id, _, dtype) in self.index.exprs.iter().take(root.0 as usize + 1) {
            let known = self.known[id.0 as usize] && id != root;
            let is_int = dtype.is_int();
            if !needed[id.0 as usize] || is_int || known || self.forms.contains_key(&id) {
                continue;
            }
            let form = self.expression(id);
            self.forms.insert(id, form);
        }
        self.forms.get(&root).cloned().unwrap_or_default()
    }

    /// The form of an operand, which is tabulated where nothing random decides it.
    fn part(&mut self, id: ExprId) -> Form {
        if let Some(form) = self.forms.get(&id) {
            return form.clone();
        }
        let form = self.expression(id);
        self.forms.insert(id, form.clone());
        form
    }

    fn expression(&mut self, id: ExprId) -> Form {
        if self.known[id.0 as usize] {
            return self.tabulated(id);
        }
        match self.exprs().get(id).clone() {
            Expr::Read(read) => self.read(&read),
            Expr::Cast(a) if self.exprs().dtype(a).is_int() => self.world.unknown("data as numbers"),
            Expr::Cast(a) => self.part(a),
            Expr::Unary(op, a) => {
                let a = self.part(a);
                self.unary(op, &a)
            }
            Expr::Binary(_, a, _) if self.exprs().dtype(a).is_int() => {
                self.world.unknown("a condition of data")
            }
            Expr::Binary(op, a, b) => {
                let (a, b) = (self.part(a), self.part(b));
                self.binary(op, &a, &b)
            }
            Expr::Select(c, a, b) => {
                let (c, a, b) = (self.part(c), self.part(a), self.part(b));
                self.select(&c, &a, &b)
            }
            Expr::Const(_) | Expr::Index(_) | Expr::Var(_) | Expr::Dim(_) => self.tabulated(id),
        }
    }

    fn unary(&mut self, op: UnaryOp, a: &Form) -> Form {
        match op {
            UnaryOp::Neg => a.times(-1.0),
            UnaryOp::Not => Form::constant(1.0).plus(a, -1.0),
            _ => {
                let f = self.world.funs.unary(op, Fun::IDENTITY);
                self.applied(f, a)
            }
        }
    }

    /// A function of a form.
    fn applied(&mut self, f: Fun, a: &Form) -> Form {
        let world = &mut *self.world;
        if let Some(constant) = a.as_constant() {
            return Form::constant(world.funs.at(f, constant));
        }
        match a.variables()[..] {
            [v] => {
                let v = v.clone();
                match a.univariate(&v, &mut world.funs) {
                    Some(inner) => Form::product(vec![(v, world.funs.compose(f, inner))], 1.0),
                    None => world.unknown("a function of several values"),
                }
            }
            _ => {
                let a = world.simplified(a, self.sizes);
                world.function(f, &a, self.sizes)
            }
        }
    }

    fn binary(&mut self, op: BinaryOp, a: &Form, b: &Form) -> Form {
        match (op, a.as_constant(), b.as_constant()) {
            (_, Some(x), Some(y)) => return Form::constant(binary(op, x, y)),
            // A value less its mean must be seen before it is squared.
            (BinaryOp::Add, ..) => return self.world.simplified(&a.plus(b, 1.0), self.sizes),
            (BinaryOp::Sub, ..) => return self.world.simplified(&a.plus(b, -1.0), self.sizes),
            (BinaryOp::Mul | BinaryOp::And, ..) => return self.product(a, b),
            (BinaryOp::Div, _, Some(y)) => return a.times(1.0 / y),
            (BinaryOp::Pow, _, Some(2.0)) => return self.product(a, a),
            _ => {}
        }
        if let Some(form) = self.univariate(op, a, b) {
            return form;
        }
        let funs = &mut self.world.funs;
        match (op, a.as_constant(), b.as_constant()) {
            (BinaryOp::Div, ..) => {
                let inverse = self.inverse(b);
                self.product(a, &inverse)
            }
            (_, Some(x), _) => {
                let x = funs.constant(x);
                let f = funs.binary(op, x, Fun::IDENTITY);
                self.applied(f, b)
            }
            (_, _, Some(y)) => {
                let y = funs.constant(y);
                let f = funs.binary(op, Fun::IDENTITY, y);
                self.applied(f, a)
            }
            _ if op.is_comparison() => {
                let zero = funs.constant(0.0);
                let f = funs.binary(op, Fun::IDENTITY, zero);
                self.applied(f, &a.plus(b, -1.0))
            }
            _ => self.world.unknown("a function of several values"),
        }
    }

    fn product(&mut self, a: &Form, b: &Form) -> Form {
        match a.by(b, &mut self.world.funs) {
            Some(form) => form,
            None => {
                // Too many terms: each factor as one variable.
                let a = self.world.function(Fun::IDENTITY, a, self.sizes);
                let b = self.world.function(Fun::IDENTITY, b, self.sizes);
                a.by(&b, &mut self.world.funs).unwrap_or_default()
            }
        }
    }

    /// Both as functions of one variable, where they have no other.
    fn univariate(&mut self, op: BinaryOp, a: &Form, b: &Form) -> Option<Form> {
        let mut variables = a.variables();
        variables.extend(b.variables());
        variables.dedup();
        let [v] = variables[..] else { return None };
        let v = v.clone();
        let (a, b) = (a.univariate(&v, &mut self.world.funs)?, b.univariate(&v, &mut self.world.funs)?);
        Some(Form::product(vec![(v, self.world.funs.binary(op, a, b))], 1.0))
    }

    fn inverse(&mut self, b: &Form) -> Form {
        let funs = &mut self.world.funs;
        let one = funs.constant(1.0);
        let f = funs.binary(BinaryOp::Div, one, Fun::IDENTITY);
        match &b.terms[..] {
            [(product, c)] => {
                let product = product.iter().map(|(v, g)| (v.clone(), funs.compose(f, *g))).collect();
                Form::product(product, 1.0 / c)
            }
            _ => self.applied(f, b),
        }
    }

    fn select(&mut self, c: &Form, a: &Form, b: &Form) -> Form {
        if let Some(c) = c.as_constant() {
            return if c == 0.0 { b.clone() } else { a.clone() };
        }
        let mut variables: Vec<Variable> = Vec::new();
        for form in [c, a, b] {
            variables.extend(form.variables().into_iter().cloned());
        }
        variables.sort_unstable();
        variables.dedup();
        if let [v] = &variables[..] {
            let funs = &mut self.world.funs;
            let parts = (c.univariate(v, funs), a.univariate(v, funs), b.univariate(v, funs));
            if let (Some(c), Some(a), Some(b)) = parts {
                return Form::product(vec![(v.clone(), funs.select(c, a, b))], 1.0);
            }
        }
        let then = self.product(c, a);
        let not = Form::constant(1.0).plus(c, -1.0);
        let otherwise = self.product(&not, b);
        then.plus(&otherwise, 1.0)
    }

    fn read(&mut self, read: &Read) -> Form {
        let coords: Vec<Coord> = read.index.iter().map(|id| self.coord(*id)).collect();
        let form = match &self.operands[read.port as usize] {
            Meaning::Data(_) => return self.world.unknown("data as numbers"),
            Meaning::Real(form) => form.read_at(&coords, self.sizes, &mut self.world.funs),
            Meaning::Steps(axis, entries) => {
                let mut coords = coords.clone();
                let entry = (*axis < coords.len()).then(|| coords.remove(*axis)).and_then(|c| c.as_fixed());
                match entry.and_then(|at| entries.get(&at)) {
                    Some(form) => form.read_at(&coords, self.sizes, &mut self.world.funs),
                    None => return self.world.unknown("a position of the recurrence that is not a lag"),
                }
            }
        };
        let form = self.world.resolved(&form, self.sizes);
        let shape = &self.shapes[read.port as usize];
        let Some(otherwise) = read.otherwise else { return form };
        let outside: Vec<(&Coord, i64)> = coords
            .iter()
            .zip(shape)
            .filter(|(c, n)| c.range(self.sizes).is_none_or(|(low, high)| low < 0 || high >= **n))
            .map(|(c, n)| (c, *n))
            .collect();
        if outside.is_empty() {
            return form;
        }
        let otherwise = self.part(otherwise);
        if outside.iter().any(|(c, _)| c.has_data()) {
            return self.world.unknown("data decide what is padding");
        }
        let Some(inside) = self.inside(&outside) else {
            return self.world.unknown("too many positions to count");
        };
        match otherwise.as_constant().filter(|x| x.is_infinite()) {
            None => self.select(&inside, &form, &otherwise),
            Some(padding) if self.is_left_out(read, padding) => {
                self.inside = Some(inside);
                form
            }
            Some(_) => self.world.unknown("padding that is infinite"),
        }
    }

    /// Whether an element with such a padding is what the op reduces, and the reduction leaves it out.
    fn is_left_out(&self, read: &Read, padding: f64) -> bool {
        let is_body = matches!(self.exprs().get(self.index.body), Expr::Read(body) if body == read);
        let reducer = self.index.reduce.as_ref().map(|reduce| reduce.reducer);
        let wanted = if padding < 0.0 { Reducer::Max } else { Reducer::Min };
        is_body && reducer == Some(wanted)
    }

    /// Where coordinates are inside their axes, as numbers.
    fn inside(&mut self, coords: &[(&Coord, i64)]) -> Option<Form> {
        let used = coords.iter().fold(0, |axes, (c, _)| axes | c.axes());
        self.table(used, &mut |_, point| {
            let mut inside = true;
            for (c, size) in coords {
                inside &= (0..*size).contains(&c.at(point)?);
            }
            Some(f64::from(u8::from(inside)))
        })
    }

    /// Numbers over some axes, from a function of the point.
    fn table(&mut self, used: Axes, value: &mut dyn FnMut(&mut Self, &[i64]) -> Option<f64>) -> Option<Form> {
        let axes: Vec<usize> = (0..self.sizes.len()).filter(|k| used >> k & 1 == 1).collect();
        let count = axes.iter().try_fold(1i64, |n, k| n.checked_mul(self.sizes[*k]))?;
        if count > MAX_TABLE {
            return None;
        }
        let mut point = vec![0; self.sizes.len()];
        let mut values = Vec::with_capacity(usize::try_from(count).ok()?);
        for _ in 0..count {
            values.push(value(self, &point)?);
            advance(&mut point, self.sizes, &axes);
        }
        let inner: Vec<i64> = axes.iter().map(|k| self.sizes[*k]).collect();
        Some(self.world.numbers(values, &inner, axes.iter().map(|k| Coord::axis(*k)).collect()))
    }

    /// What nothing random decides, as numbers.
    fn tabulated(&mut self, id: ExprId) -> Form {
        let mut used = vec![0; id.0 as usize + 1];
        let needed = self.exprs().reachable(&[id]);
        for (k, expr, _) in self.index.exprs.iter().take(id.0 as usize + 1) {
            let own = if let Expr::Index(axis) = expr { 1 << axis } else { 0 };
            let parts = self.index.exprs.operands(k).into_iter().map(|part| used[part.0 as usize]);
            used[k.0 as usize] = parts.fold(own, |axes: Axes, part| axes | part);
        }
        let axes = used[id.0 as usize];
        let table = self.table(axes, &mut |this, point| this.scalar(id, &needed, point).map(real));
        table.unwrap_or_else(|| self.world.unknown("too many positions to count"))
    }

    /// The value of what nothing random decides, at a point.
    fn scalar(&self, id: ExprId, needed: &[bool], point: &[i64]) -> Option<Scalar> {
        let mut values: Vec<Option<Scalar>> = Vec::with_capacity(id.0 as usize + 1);
        for (k, expr, dtype) in self.index.exprs.iter().take(id.0 as usize + 1) {
            let at = |part: &ExprId| values[part.0 as usize];
            let value = match expr {
                _ if !needed[k.0 as usize] => None,
                Expr::Const(Literal::Real(bits)) => Some(cast(Scalar::F64(f64::from_bits(*bits)), dtype)),
                Expr::Const(Literal::Int(x)) => Some(cast(Scalar::I64(*x), dtype)),
                Expr::Const(Literal::Bool(x)) => Some(Scalar::Bool(*x)),
                Expr::Index(axis) => point.get(*axis as usize).map(|x| Scalar::I64(*x)),
                Expr::Var(var) => self.vars.get(var).map(|x| Scalar::I64(*x)),
                Expr::Dim(dim) => self.dims.eval(dim).ok().map(Scalar::I64),
                Expr::Unary(op, a) => at(a).and_then(|a| apply_unary(*op, a).ok()),
                Expr::Binary(op, a, b) => at(a).zip(at(b)).and_then(|(a, b)| apply_binary(*op, a, b).ok()),
                Expr::Cast(a) => at(a).map(|a| cast(a, dtype)),
                Expr::Select(c, a, b) => match at(c) {
                    Some(Scalar::Bool(true)) => at(a),
                    Some(Scalar::Bool(false)) => at(b),
                    _ => None,
                },
                Expr::Read(read) => self.number(read, &values).map(|x| cast(Scalar::F64(x), dtype)),
            };
            values.push(value);
        }
        values.pop().flatten()
    }

    /// A number that is read.
    fn number(&self, read: &Read, values: &[Option<Scalar>]) -> Option<f64> {
        let shape = &self.shapes[read.port as usize];
        let index: Option<Vec<i64>> =
            read.index.iter().map(|id| values[id.0 as usize].and_then(Scalar::as_i64)).collect();
        let index = index?;
        if index.iter().zip(shape).any(|(at, size)| !(0..*size).contains(at)) {
            return read.otherwise.and_then(|id| values[id.0 as usize]).map(real);
        }
        let Meaning::Real(form) = &self.operands[read.port as usize] else { return None };
        let Some(v) = form.as_variable() else { return form.as_constant() };
        let base = self.world.base(v.base);
        let Kind::Numbers(numbers) = &base.kind else { return None };
        let at = v.at.iter().zip(&base.sizes).try_fold(0, |at, (c, size)| {
            Some(at * size + c.at(&index).filter(|c| (0..*size).contains(c))?)
        })?;
        numbers.get(usize::try_from(at).ok()?).copied()
    }

    /// The coordinate that an integer is.
    fn coord(&mut self, root: ExprId) -> Coord {
        let needed = self.exprs().reachable(&[root]);
        let index = self.index;
        for (id, expr, dtype) in index.exprs.iter().take(root.0 as usize + 1) {
            if !needed[id.0 as usize] || dtype != DType::I64 || self.coords.contains_key(&id) {
                continue;
            }
            let at = |this: &Self, id: &ExprId| this.coords.get(id).cloned();
            let coord = match expr {
                Expr::Const(Literal::Int(x)) => Some(Coord::fixed(*x)),
                Expr::Index(axis) => Some(Coord::axis(*axis as usize)),
                Expr::Dim(dim) => self.dims.eval(dim).ok().map(Coord::fixed),
                Expr::Var(var) => self.vars.get(var).map(|x| Coord::fixed(*x)),
                Expr::Unary(UnaryOp::Neg, a) => at(self, a).map(|a| a.times(-1)),
                Expr::Binary(op, a, b) => {
                    at(self, a).zip(at(self, b)).map(|(a, b)| Coord::op(*op, &a, &b, self.sizes))
                }
                Expr::Read(read) => match &self.operands[read.port as usize] {
                    Meaning::Data(data) => {
                        let at: Option<Vec<Coord>> = read.index.iter().map(|id| at(self, id)).collect();
                        at.map(|at| Coord::atom(Atom::Data(*data, at)))
                    }
                    Meaning::Real(form) => {
                        form.as_constant().filter(|x| x.fract() == 0.0).map(|x| Coord::fixed(x as i64))
                    }
                    Meaning::Steps(..) => None,
                },
                _ => None,
            };
            let coord = coord.unwrap_or_else(|| {
                *self.fresh += 1;
                Coord::atom(Atom::Data(*self.fresh, Coord::identity(self.sizes.len())))
            });
            self.coords.insert(id, coord);
        }
        self.coords.get(&root).cloned().unwrap_or_default()
    }
}
