"""Bounds on quadrants and proofs of orderings, against ball arithmetic and against derivatives."""

from __future__ import annotations

import itertools
import random
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from flint import arb, arb_series

from actsearch.equivalence import enclosures, intervals, orderings, quotients
from actsearch.equivalence.balls import ball_value, is_value, precision
from actsearch.equivalence.batches import placeholder
from actsearch.equivalence.holes import with_holes
from actsearch.equivalence.normal_form import form_of
from actsearch.equivalence.patterns import Patterns
from actsearch.equivalence.polynomial import Form, to_expression
from actsearch.grammar import parse, space
from actsearch.grammar.expression import Expression, Input, Parameter
from actsearch.grammar.language import as_expression

X, BETA = Input("x"), Parameter("beta")


def on_quadrant(text: str | Expression, signs: tuple[int, int] = (1, 1)) -> Form:
    leaves: dict[Expression, Expression] = {
        X: enclosures.SIZE_OF_X if signs[0] > 0 else -enclosures.SIZE_OF_X,
        BETA: enclosures.SIZE_OF_BETA if signs[1] > 0 else -enclosures.SIZE_OF_BETA,
    }
    return form_of(as_expression(text).substitute(leaves))


def units(count: int, seed: int) -> list[Expression]:
    names = space("swish", units=1, parameters="shared").sample(count, seed)
    return [with_holes(name, "shared") for name in names]


def points(edges: np.ndarray, generator: random.Random) -> list[Fraction]:
    """A point of each cell, and now and then one close to an end of it."""
    found = []
    for low, high in itertools.pairwise(edges.tolist()):
        share = generator.choice((1e-12, 0.5, generator.random(), 1 - 1e-12))
        top = min(high, 1e4 * max(low, 1.0))
        found.append(Fraction(low + share * (top - low)))
    return found


def cell(bound: np.ndarray, row: int, column: int) -> float:
    return float(bound[min(row, bound.shape[0] - 1), min(column, bound.shape[1] - 1)])


def between(low: float, value: arb, high: float) -> bool:
    """Whether no part of the ball is proved to lie outside."""
    return not (np.isfinite(low) and value < arb(low)) and not (
        np.isfinite(high) and value > arb(high)
    )


CASES = [
    "max(x, sin(x))", "softplus(beta - x)", "exp(-beta*(x - tanh(x))**2)", "x**3*exp(-2*x)",
    "sqrt(x + atan(x))", "log(abs(sin(x)) + eps)", "1/(x - 1)", "cosh(x) - x", "sinc(beta*x)",
    "mix(beta, x, cos(x))", "x - 2*atan(x)*sqrt(x) + atan(x)**2", "min(x, max(beta, x**2))",
]  # fmt: skip


@pytest.mark.parametrize("signs", [(1, 1), (-1, 1), (1, -1)])
def test_bounds_hold_for_the_true_values(signs: tuple[int, int]) -> None:
    generator = random.Random(f"bounds {signs}")
    for text in [*CASES, *units(60, 1)]:
        form = on_quadrant(text, signs)
        if not form.terms:
            continue
        expression = to_expression(Form(form.terms))
        with np.errstate(all="ignore"):
            forms = [form, orderings._opened(form, orderings._near) or form]
            forms += [orderings._opened(form, orderings._tail) or form]
            bounds = [enclosures.enclosure(Form(f.terms)) for f in forms]
        betas = points(enclosures._BETA_EDGES, generator)
        with precision(128):
            for row, x in enumerate(points(enclosures._X_EDGES, generator)):
                for column in generator.sample(range(len(betas)), 2):
                    ball = ball_value(expression, {"|x|": x, "|beta|": betas[column]})
                    if not is_value(ball):
                        continue
                    for low, high in bounds:
                        ends = cell(low, row, column), cell(high, row, column)
                        assert between(ends[0], ball, ends[1]), (text, float(x), ends)


def test_products_of_bounds_hold_and_keep_zeros() -> None:
    ends = (-np.inf, -1e308, -1.5, -1e-200, 0.0, 1e-200, 1 / 3, 1.0, 7.0, 1e308, np.inf)
    pairs = list(itertools.combinations_with_replacement(ends, 2))
    for a, b in itertools.product(pairs, repeat=2):
        first, second = ((np.full((1, 1), low), np.full((1, 1), high)) for low, high in (a, b))
        with np.errstate(all="ignore"):
            (low,), (high,) = (end[0].tolist() for end in intervals.times(first, second))
        inside = [[end for end in own if np.isfinite(end)] for own in (a, b)]
        for left, right in itertools.product(*inside):
            product = Fraction(left) * Fraction(right)
            assert low == -np.inf or Fraction(low) <= product
            assert high == np.inf or product <= Fraction(high)
        if min(*a, *b) >= 0:
            assert low >= 0
        if a == (0.0, 0.0):
            assert low == high == 0


@pytest.mark.parametrize("name", sorted(quotients.QUOTIENTS))
def test_quotients_are_bounded(name: str) -> None:
    at_zero, degree, bounds = quotients.QUOTIENTS[name]
    generator = random.Random(name)
    edges = sorted(generator.choice((1, -1)) * 10 ** generator.uniform(-9, 2) for _ in range(60))
    for low, high in [
        *itertools.pairwise(edges),
        (0.0, 0.01),
        (-0.3, 0.0),
        (-2.0, 3.0),
        (0.0, 0.0),
    ]:
        with np.errstate(all="ignore"):
            ends = [float(e[0, 0]) for e in bounds(np.full((1, 1), low), np.full((1, 1), high))]
        with precision(300):
            for share in (0, 1, 0.25, 0.7):
                t = Fraction(low) + Fraction(share) * (Fraction(high) - Fraction(low))
                if t == 0:
                    continue
                value = ball_value(parse(f"{name}(x)"), {"x": t})
                quotient = (value - arb(int(at_zero * 2)) / 2) / ball_value(X, {"x": t}) ** degree
                assert between(ends[0], quotient, ends[1]), (name, float(t), ends)


@pytest.mark.parametrize(
    ("bounds", "quotient"),
    [
        (quotients.log_quotient, lambda t: (1 + t).log() / t),
        (quotients.log_share, lambda t: t.log() / t),
        (quotients._log_cosh, lambda t: t.cosh().log() - t),
        (quotients._log_sinh, lambda t: t.sinh().log() - t),
    ],
)
def test_quotients_of_logarithms_are_bounded(bounds: Any, quotient: Any) -> None:
    generator = random.Random(7)
    edges = sorted(10 ** generator.uniform(-12, 2.5) for _ in range(80))
    for low, high in [*itertools.pairwise(edges), (0.5, 8.0), (3.0, 1e6), (1e-3, 1.0)]:
        with np.errstate(all="ignore"):
            ends = [float(e[0, 0]) for e in bounds(np.full((1, 1), low), np.full((1, 1), high))]
        with precision(2048):
            for share in (0.0, 1.0, 0.3):
                assert between(
                    ends[0], quotient(arb(low) + arb(share) * (arb(high) - arb(low))), ends[1]
                )


PROVED = [
    ("x - tanh(x)", (1, 1)), ("atan(x) - tanh(x)", (1, 1)), ("sinh(x) - x", (1, 1)),
    ("exp(x) - asinh(x)**2/4", (1, 1)), ("cosh(x) - sinc(x)**2", (1, 1)),
    ("sinc(tanh(x)*sigmoid(x)) - exp(-x**2)", (1, 1)), ("exp(x) - tanh(beta)", (1, 1)),
    ("asinh(cosh(x)*sqrt(x)) - asinh(x)", (1, 1)), ("exp(sinh(x)) - x", (1, 1)),
    ("exp(3*x)*sigmoid(x**3)**3 - x", (1, 1)), ("log(1 + exp(-x)) - sigmoid(x) + 1", (1, 1)),
    ("sigmoid(x) - exp(x)/(2*exp(x) + 2)", (-1, 1)), ("max(x, beta) - min(x, sin(beta))", (1, -1)),
    ("max(max(x, beta), cos(x)) - max(beta, cos(x))", (1, 1)),
    ("-2*beta*x*tanh(x) + beta*x**2 + beta*tanh(x)**2", (1, 1)),
    ("sqrt(atan(x) + sinh(x)) - atan(x)", (1, 1)),
]  # fmt: skip


@pytest.mark.parametrize(("text", "signs"), PROVED)
def test_differences_that_are_never_negative(text: str, signs: tuple[int, int]) -> None:
    assert orderings.sign(on_quadrant(text, signs))[0]
    assert orderings.sign(on_quadrant(f"-({text})", signs))[1]


NEITHER = [
    "x - 1", "x - x**2", "exp(x) - 1 - x - x**2", "tanh(x) - erf(x) + 1e-9", "x - beta",
    "sin(x)", "cos(x) - sinc(x)", "asinh(x) - log(1 + x)", "exp(x) - 3*x", "x - sinh(x)/1000",
    "sigmoid(x) - tanh(x)*sigmoid(beta*x)", "log(x + eps)", "x - 100*log(x + 1)", "x**2 - 1e-9*x",
]  # fmt: skip


@pytest.mark.parametrize("text", NEITHER)
def test_differences_of_both_signs(text: str) -> None:
    assert orderings.sign(on_quadrant(text)) == (False, False)


def test_no_sign_is_proved_that_balls_refute() -> None:
    generator = random.Random("signs")
    texts = units(80, 2)
    proved = 0
    with precision(256):
        for first, second in zip(texts[::2], texts[1::2], strict=True):
            for signs in ((1, 1), (-1, -1)):
                form = on_quadrant(first - second, signs)
                above, below = orderings.sign(form)
                proved += above or below
                expression = to_expression(Form(form.terms))
                for _ in range(60 if above or below else 0):
                    values = {
                        name: Fraction(10 ** generator.uniform(-8, 2)) for name in ("|x|", "|beta|")
                    }
                    ball = ball_value(expression, values)
                    if is_value(ball):
                        assert not (above and ball < 0), (first, second, values)
                        assert not (below and ball > 0), (first, second, values)
    assert proved > 20


SERIES = {
    "sin": lambda t: t.sin(),
    "sinh": lambda t: (t.exp() - (-t).exp()) / 2,
    "tanh": lambda t: ((2 * t).exp() - 1) / ((2 * t).exp() + 1),
    "atan": lambda t: t.atan(),
    "asinh": lambda t: (t + (1 + t * t).sqrt()).log(),
    "erf": lambda t: t.erf(),
}


@pytest.mark.parametrize(("larger", "smaller"), orderings.LARGER)
def test_orderings_of_operators(larger: str, smaller: str) -> None:
    """f − g > 0 for t > 0: Taylor with a remainder near 0, balls up to 40, and beyond by limits."""
    with precision(128):
        end = arb(1) / 4
        box = arb(1, 1) / 8  # [0, 1/4]
        at_zero, over = (
            SERIES[larger](t) - SERIES[smaller](t)
            for t in (arb_series([0, 1], prec=12), arb_series([box, 1], prec=12))
        )
        leading = next(k for k in range(1, 10) if not at_zero[k].contains(0))
        assert all(abs(at_zero[k]) < 1e-30 for k in range(leading))  # 0: all are rational
        # (f − g)/t^leading = c_leading + c_(leading+1)·t + … + R·t^(11 − leading)
        rest = sum(abs(at_zero[k]) * end ** (k - leading) for k in range(leading + 1, 11))
        assert at_zero[leading] > rest + abs(over[11]) * end ** (11 - leading)
        half = Fraction(1, 32)
        for number in range(4, 36 if larger == "erf" else 640):
            t = (2 * number + 1) * half
            assert _lowest(larger, smaller, t, half) > 0, float(t)
        if (larger, smaller) == ("erf", "tanh"):
            pass  # 1 − erf t < exp(−t²) ≤ exp(−2t) ≤ 1 − tanh t for t ≥ 2
        elif larger != "sinh":  # sinh t ≥ t ≥ asinh t
            limit = {"atan": arb.pi() / 2, "sin": arb(1), "tanh": arb(1)}[smaller]
            assert ball_value(parse(f"{larger}(x)"), {"x": Fraction(40)}) > limit


def _lowest(larger: str, smaller: str, middle: Fraction, half: Fraction) -> arb:
    """A lower bound of f − g on an interval: Taylor at the middle, with a remainder."""
    center, width = (arb(v.numerator) / v.denominator for v in (middle, half))
    at, over = (
        SERIES[larger](t) - SERIES[smaller](t)
        for t in (
            arb_series([center, 1], prec=9),
            arb_series([center + arb(0, 1) * width, 1], prec=9),
        )
    )
    moved = sum(abs(at[k]) * width**k for k in range(1, 8))
    return at[0] - moved - abs(over[8]) * width**8


def test_tails_are_identities() -> None:
    with precision(256):
        for name, text in quotients.TAILS.items():
            for value in (Fraction(-7, 3), Fraction(1, 9), Fraction(5), Fraction(40)):
                left = ball_value(parse(f"{name}(x)"), {"x": value})
                right = ball_value(parse(text.replace("(a)", "(x)").replace("*a", "*x").replace(
                    "-a", "-x")), {"x": value})  # fmt: skip
                assert left.overlaps(right)


def test_patterns_of_productions_hold() -> None:
    texts = ["a + b", "a - b", "max(a, b)", "min(a, b)", "a*b", "a/b", "exp(-beta*(a - b)**2)"]
    names: dict[Expression, Expression] = {
        Parameter("a"): placeholder(0),
        Parameter("b"): placeholder(1),
    }
    templates = [parse(text).substitute(names) for text in texts]
    patterns = Patterns([(template, 2) for template in templates])
    values = {1: Fraction(3, 7), 2: Fraction(-11, 5), 3: Fraction(2)}
    seen: dict[int, list[arb]] = {}

    def code(number: int, *operands: tuple[int, int]) -> int:
        columns = [np.array([2 * function + (sign < 0)]) for function, sign in operands]
        return int(patterns.codes(number, columns)[0])

    with precision(128):
        for number, template in enumerate(templates):
            for first, second in itertools.product(itertools.product(values, (1, -1)), repeat=2):
                at = {
                    placeholder(0).name: values[first[0]] * first[1],
                    placeholder(1).name: values[second[0]] * second[1],
                    "beta": Fraction(1, 3),
                }
                own = code(number, first, second)
                seen.setdefault(own, []).append(ball_value(template, at))
    assert len(seen) < 0.5 * 36 * len(texts)
    for balls in seen.values():
        assert all(balls[0].overlaps(ball) for ball in balls)
    assert code(0, (1, 1), (2, -1)) == code(1, (1, 1), (2, 1))
    assert code(3, (1, 1), (2, 1)) != code(2, (1, 1), (2, 1))
