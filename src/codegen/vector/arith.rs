//! The math functions as vector instructions: a third way to run [`super::super::math`].

use super::super::math::arith::Arith;
use super::build::Builder;
use super::ir::{Binary, Compare, Logic, Op, Operand, Reg, Shift, Unary};

impl Arith for Builder {
    type S = f32;
    type F = Operand;
    type I = Operand;
    type M = Reg;

    fn f(&mut self, c: f32) -> Operand {
        Builder::real(c)
    }
    fn i(&mut self, c: i64) -> Operand {
        Operand::Splat(c as u32)
    }

    fn add(&mut self, x: Operand, y: Operand) -> Operand {
        self.binary(Binary::Add, x, y)
    }
    fn sub(&mut self, x: Operand, y: Operand) -> Operand {
        self.binary(Binary::Sub, x, y)
    }
    fn mul(&mut self, x: Operand, y: Operand) -> Operand {
        self.binary(Binary::Mul, x, y)
    }
    fn div(&mut self, x: Operand, y: Operand) -> Operand {
        self.binary(Binary::Div, x, y)
    }
    fn fma(&mut self, x: Operand, y: Operand, z: Operand) -> Operand {
        Builder::fma(self, x, y, z)
    }
    fn neg(&mut self, x: Operand) -> Operand {
        self.negate(x)
    }
    fn abs(&mut self, x: Operand) -> Operand {
        self.absolute(x)
    }
    fn sqrt(&mut self, x: Operand) -> Operand {
        self.unary(Unary::Sqrt, x)
    }
    fn nearest(&mut self, x: Operand) -> Operand {
        self.unary(Unary::Nearest, x)
    }
    fn floor(&mut self, x: Operand) -> Operand {
        self.unary(Unary::Floor, x)
    }
    fn ceil(&mut self, x: Operand) -> Operand {
        self.unary(Unary::Ceil, x)
    }
    fn trunc(&mut self, x: Operand) -> Operand {
        self.unary(Unary::Trunc, x)
    }

    fn lt(&mut self, x: Operand, y: Operand) -> Reg {
        self.compare(Compare::Less, x, y)
    }
    fn eq(&mut self, x: Operand, y: Operand) -> Reg {
        self.compare(Compare::Equal, x, y)
    }
    fn ieq(&mut self, x: Operand, y: Operand) -> Reg {
        self.equal_int(x, y)
    }
    fn both(&mut self, p: Reg, q: Reg) -> Reg {
        self.logic(Logic::And, p, q)
    }
    fn either(&mut self, p: Reg, q: Reg) -> Reg {
        self.logic(Logic::Or, p, q)
    }
    fn not(&mut self, p: Reg) -> Reg {
        Builder::not(self, p)
    }
    fn select(&mut self, p: Reg, x: Operand, y: Operand) -> Operand {
        Builder::select(self, p, x, y)
    }

    fn to_bits(&mut self, x: Operand) -> Operand {
        x
    }
    fn of_bits(&mut self, x: Operand) -> Operand {
        x
    }
    fn iadd(&mut self, x: Operand, y: Operand) -> Operand {
        self.binary(Binary::AddInt, x, y)
    }
    fn isub(&mut self, x: Operand, y: Operand) -> Operand {
        self.binary(Binary::SubInt, x, y)
    }
    fn iand(&mut self, x: Operand, y: Operand) -> Operand {
        self.binary(Binary::And, x, y)
    }
    fn ior(&mut self, x: Operand, y: Operand) -> Operand {
        self.binary(Binary::Or, x, y)
    }
    fn ishl(&mut self, x: Operand, by: u32) -> Operand {
        self.shift(Op::Shift(Shift::Left, by as u8), x)
    }
    fn ushr(&mut self, x: Operand, by: u32) -> Operand {
        self.shift(Op::Shift(Shift::Right, by as u8), x)
    }
}
