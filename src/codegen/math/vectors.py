#!/usr/bin/env python3
"""Prints vectors64.txt: results of the f64 functions to twice their precision.

Needs mpmath. Each line is `function x [y] hi lo`, all as the bits of doubles in hexadecimal;
the exact result is within 2^-100 of hi + lo, relatively. COUNT points per function (default 60).

    python3 vectors.py [COUNT [SEED]] > vectors64.txt
"""

import random
import struct
import sys

from mpmath import cos, erf, exp, expm1, fabs, log, log1p, mp, mpf, sin, tan, tanh

mp.prec = 1400


def bits(x):
    return f"{struct.unpack('>Q', struct.pack('>d', x))[0]:016x}"


def spread(rng, low, high):
    """A number of either sign whose magnitude is spread over powers of two."""
    return rng.choice((-1, 1)) * 2.0 ** rng.uniform(low, high)


def positive(low, high):
    return lambda rng: 2.0 ** rng.uniform(low, high)


def either(low, high):
    return lambda rng: spread(rng, low, high)


def mixed(*choices):
    return lambda rng: rng.choice(choices)(rng)


def uniform(low, high):
    return lambda rng: rng.uniform(low, high)


def sigmoid(x):
    return 1 / (1 + exp(-x))


ANGLES = mixed(uniform(-20, 20), either(-30, 4), either(4, 21), either(20, 1023))
UNARY = {
    "exp": (exp, mixed(uniform(-745, 709.7), uniform(-2, 2), either(-60, 0))),
    "exp2": (lambda x: mpf(2) ** x, mixed(uniform(-1074, 1024), uniform(-2, 2), either(-60, 0))),
    "expm1": (expm1, mixed(uniform(-45, 709.7), uniform(-2, 2), either(-60, 0))),
    "log": (log, mixed(positive(-1074, 1023), uniform(0.5, 2), uniform(0.99, 1.01))),
    "log2": (lambda x: log(x) / log(mpf(2)), mixed(positive(-1074, 1023), uniform(0.5, 2), uniform(0.99, 1.01))),
    "log1p": (log1p, mixed(positive(-60, 1023), uniform(-0.999, 2), either(-60, -1))),
    "tanh": (tanh, mixed(uniform(-20, 20), uniform(-1, 1), either(-60, 0))),
    "sigmoid": (sigmoid, mixed(uniform(-745, 40), uniform(-6, 6), either(-60, 0))),
    "erf": (erf, mixed(uniform(-6, 6), uniform(-1.5, 1.5), either(-60, 0))),
    "sin": (sin, ANGLES),
    "cos": (cos, ANGLES),
    "tan": (tan, ANGLES),
}


def power_arguments(rng):
    kind = rng.randrange(3)
    if kind == 0:
        x = 2.0 ** rng.uniform(-1074, 1023)
        return x, rng.uniform(-1074, 1023) / (mp.mpf(log(mpf(x)) / log(mpf(2))) or 1)
    if kind == 1:
        return rng.uniform(0.5, 2), rng.uniform(-700, 700)
    return rng.uniform(0.999, 1.001), spread(rng, 0, 18)


def line(name, arguments, value):
    if value != 0 and fabs(value) > mpf(2) ** 1023.9:
        return None
    hi = float(value)
    lo = float(value - mpf(hi))
    return " ".join([name, *map(bits, arguments), bits(hi), bits(lo)])


def main():
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 60
    rng = random.Random(int(sys.argv[2]) if len(sys.argv) > 2 else 1)
    for name, (function, sample) in UNARY.items():
        mp.prec = 1400 if name in ("sin", "cos", "tan") else 250
        for _ in range(count):
            x = sample(rng)
            text = line(name, [x], function(mpf(x)))
            if text:
                print(text)
    mp.prec = 250
    for _ in range(count):
        x, y = map(float, power_arguments(rng))
        text = line("pow", [x, y], mpf(x) ** mpf(y))
        if text:
            print(text)


if __name__ == "__main__":
    main()
