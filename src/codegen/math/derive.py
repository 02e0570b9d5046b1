#!/usr/bin/env python3
"""Prints the coefficient tables of the math functions (coeffs32.rs and coeffs64.rs).

Needs mpmath. Each table is a minimax polynomial found by the Remez exchange in 60-digit
arithmetic, of the least degree whose weighted error is below the target of the format, and
then rounded to the format. README.md beside this file says what each polynomial stands for.

    python3 derive.py f32 > coeffs32.rs; python3 derive.py f64 > coeffs64.rs
"""

import struct
import sys

from mpmath import cos, erf, erfc, exp, expm1, fabs, atanh, log, lu_solve, matrix, mp, mpf, pi, sin, sqrt, tanh

mp.dps = 60
# Keeps the weights off zero, where a relative error has no meaning.
TINY = mpf(10) ** -6


def polynomial(coefficients, x):
    """Horner's rule; the constant comes first."""
    total = mpf(0)
    for c in reversed(coefficients):
        total = total * x + c
    return total


def exchange_points(error, points):
    """The largest |error| in each stretch of one sign, which is where the next nodes go."""
    chosen, previous = [], None
    for x in points:
        e = error(x)
        if previous is None or (e > 0) != (previous > 0):
            chosen.append((x, e))
        elif fabs(e) > fabs(chosen[-1][1]):
            chosen[-1] = (x, e)
        previous = e
    return chosen


def remez(f, weight, low, high, degree, rounds=6):
    """The polynomial of `degree` that minimises max |weight (f - p)| on [low, high]."""
    count = degree + 2
    weigh = lambda x: max(weight(x), TINY)
    middle, half = (low + high) / 2, (high - low) / 2
    nodes = [middle - half * cos(pi * i / (count - 1)) for i in range(count)]
    grid = [middle - half * cos(pi * (i + mpf(1) / 2) / (24 * count)) for i in range(24 * count)]
    values = {x: (f(x), weigh(x)) for x in grid}
    coefficients, worst = None, None
    for _ in range(rounds):
        a, b = matrix(count, count), matrix(count, 1)
        for row, x in enumerate(nodes):
            for column in range(degree + 1):
                a[row, column] = x**column
            a[row, degree + 1] = (-1) ** row / weigh(x)
            b[row] = f(x)
        solution = lu_solve(a, b)
        coefficients = [solution[i] for i in range(degree + 1)]
        error = lambda x: values[x][1] * (values[x][0] - polynomial(coefficients, x))
        extremes = exchange_points(error, grid)
        worst = max(fabs(e) for _, e in extremes)
        if len(extremes) < count:
            break
        while len(extremes) > count:
            extremes.pop(0 if fabs(extremes[0][1]) < fabs(extremes[-1][1]) else -1)
        nodes = [x for x, _ in extremes]
    return coefficients, worst


def fit(f, weight, low, high, target):
    """The polynomial of least degree whose weighted error is below `target`."""
    degree = 1
    while True:
        coefficients, worst = remez(f, weight, mpf(low), mpf(high), degree, 6)
        if worst < target:
            return coefficients, worst
        degree += 1


def series(f, terms):
    """Turns a removable singularity at zero into its power series nearby."""
    def value(x):
        return f(x) if fabs(x) > mpf(10) ** -6 else polynomial(terms, x)
    return value


def rounded(x, fmt):
    """The nearest number of the format, as an exact mpf."""
    bits = 24 if fmt == "f32" else 53
    with_bits = mp.prec
    mp.prec = bits
    r = +x
    mp.prec = with_bits
    return r


def literal(x, fmt):
    """The shortest decimal that reads back as the same number."""
    value = float(rounded(x, fmt))
    if fmt == "f64":
        text = repr(value)
    else:
        for digits in range(1, 10):
            text = f"{value:.{digits}g}"
            if struct.pack("f", float(text)) == struct.pack("f", value):
                break
    if "." not in text and "e" not in text:
        text += ".0"
    if "e" in text:
        mantissa, exponent = text.split("e")
        text = f"{mantissa}e{int(exponent)}"
    return text


def words(x, fmt, count):
    """`x` as an unevaluated sum of `count` numbers of the format."""
    parts = []
    for _ in range(count):
        parts.append(rounded(x, fmt))
        x -= parts[-1]
    return parts


def factorials(first, count):
    return [1 / mp.factorial(first + i) for i in range(count)]


def tables(fmt):
    """Name, coefficients and reached error of every polynomial."""
    u = mpf(2) ** (-24 if fmt == "f32" else -53)
    t = u / 16
    half_ln2 = log(2) / 2 * mpf("1.0001")
    z_log = ((sqrt(2) - 1) / (sqrt(2) + 1)) ** 2 * mpf("1.0001")
    erf_end, erf_centre = (mpf(4), mpf("2.5")) if fmt == "f32" else (mpf(6), mpf("3.5"))
    quarter = (pi / 4 * mpf("1.001")) ** 2
    yield "EXP", fit(series(lambda r: (exp(r) - 1 - r) / r**2, factorials(2, 6)),
                     lambda r: fabs(r), -half_ln2, half_ln2, t)
    yield "EXP2", fit(series(lambda r: expm1(r * log(2)) / r, [log(2) ** (i + 1) / mp.factorial(i + 1) for i in range(6)]),
                      lambda r: fabs(r), mpf("-0.5001"), mpf("0.5001"), t)
    odd = lambda first: [mpf(1) / (first + 2 * i) for i in range(7)]
    yield "LOG", fit(series(lambda z: 2 * (atanh(sqrt(z)) / sqrt(z) - 1) / z, [2 * c for c in odd(3)]),
                     lambda z: z / 2, 0, z_log, t)
    yield "POW_LOG", fit(series(lambda z: ((atanh(sqrt(z)) / sqrt(z) - 1) / z - mpf(1) / 3) / z, odd(5)),
                         lambda z: z**2, 0, z_log, u / (2**14 if fmt == "f32" else 2**16))
    yield "TANH", fit(series(lambda z: (tanh(sqrt(z)) / sqrt(z) - 1) / z, [mpf(-1) / 3, mpf(2) / 15, mpf(-17) / 315, mpf(62) / 2835]),
                      lambda z: z, 0, mpf("0.551") ** 2, t)
    alternate = lambda first, n: [(-1) ** (first // 2 + i) / mp.factorial(first + 2 * i) for i in range(n)]
    yield "SIN", fit(series(lambda z: (sin(sqrt(z)) / sqrt(z) - 1) / z, alternate(3, 7)),
                     lambda z: z, 0, quarter, t)
    yield "COS", fit(series(lambda z: (cos(sqrt(z)) - 1 + z / 2) / z**2, alternate(4, 7)),
                     lambda z: z**2, 0, quarter, t)
    two_rootpi = 2 / sqrt(pi)
    yield "ERF", fit(series(lambda z: erf(sqrt(z)) / sqrt(z) - 1,
                            [two_rootpi * (-1) ** n / (mp.factorial(n) * (2 * n + 1)) - (1 if n == 0 else 0) for n in range(8)]),
                     lambda z: mpf(1), 0, mpf("1.001"), t)
    yield "ERFCX", fit(lambda s: exp((s + erf_centre) ** 2) * erfc(s + erf_centre),
                       lambda s: exp(-((s + erf_centre) ** 2)), 1 - erf_centre, erf_end - erf_centre, t)


def scalars(fmt):
    third = words(mpf(1) / 3, fmt, 2)
    log2e2 = words(2 / log(2), fmt, 2)
    yield "LN2", words(log(2), fmt, 2)
    yield "LOG2E", words(1 / log(2), fmt, 2)
    yield "TWO_LOG2E", log2e2
    yield "THIRD", third
    yield "PIO2", words(pi / 2, fmt, 3)


def main():
    fmt = sys.argv[1]
    print(f"//! Constants of the {fmt} functions, printed by `derive.py {fmt}`; README.md says what each stands for.")
    print("#![allow(clippy::approx_constant, reason = \"leading words of multi-word constants\")]\n")
    for name, parts in scalars(fmt):
        print(f"pub(super) const {name}: [{fmt}; {len(parts)}] = [{', '.join(literal(p, fmt) for p in parts)}];")
    for name, (coefficients, worst) in tables(fmt):
        print(f"\n/// Weighted error 2^{float(log(worst, 2)):.1f} before rounding.")
        print(f"pub(super) const {name}: [{fmt}; {len(coefficients)}] = [")
        for c in coefficients:
            print(f"    {literal(c, fmt)},")
        print("];")
    if fmt == "f64":
        digits = int(mp.floor(two_over_pi(19 * 64) * mpf(2) ** (19 * 64)))
        print("\n/// 2/pi in fixed point: a zero word, then 1216 bits of fraction, most significant first.")
        print("pub(super) const TWO_OVER_PI: [u64; 20] = [")
        print("    0x0000_0000_0000_0000,")
        for i in range(19):
            word = f"{(digits >> (64 * (18 - i))) & (2**64 - 1):016x}"
            print(f"    0x{word[:4]}_{word[4:8]}_{word[8:12]}_{word[12:]},")
        print("];")


def two_over_pi(bits):
    mp.prec = bits + 64
    return 2 / pi


if __name__ == "__main__":
    main()
