"""Ball arithmetic: contains the truth, is tight, and is undefined exactly where mathematics is."""

from __future__ import annotations

import random
from fractions import Fraction

import mpmath
import pytest
from flint import arb

from actsearch.equivalence.balls import Program, apply_ball, ball_value, exact, is_value, precision
from actsearch.equivalence.marks import UNDECIDED, UNDEFINED
from actsearch.grammar import OPERATORS, parse
from actsearch.grammar.evaluate import evaluate
from actsearch.grammar.operators import COMPARISONS

UNARY = [row.name for row in OPERATORS.values() if row.arity == 1 and row.name != "neg"]
BINARY = [
    row.name
    for row in OPERATORS.values()
    if row.arity == 2 and not row.infix and row.name not in COMPARISONS
]
PLACES = [
    Fraction(n, 64) for n in (-6400, -900, -130, -64, -63, -20, -1, 0, 1, 20, 63, 64, 130, 900)
]
PLACES += [Fraction(1, 10**9), Fraction(-1, 10**30), Fraction(10**4)]


def check(text: str, values: dict[str, Fraction]) -> None:
    expression = parse(text)
    points = {name: mpmath.mpf(v.numerator) / v.denominator for name, v in values.items()}
    with mpmath.workdps(60):
        points = {name: mpmath.mpf(v.numerator) / v.denominator for name, v in values.items()}
        expected = evaluate(expression, points, backend="mpmath", digits=60)[()]
    with precision(160):
        ball = ball_value(expression, values)
        if ball is UNDEFINED:
            assert mpmath.isnan(expected), (text, values, expected)
            return
        assert is_value(ball), (text, values, ball)
        assert not mpmath.isnan(expected), (text, values, ball)
        assert ball.rel_accuracy_bits() > 100 or ball.abs_upper() < 1e-40, (text, values, ball)
        with mpmath.workdps(60):
            middle = mpmath.mpf(str(ball.mid().str(50, radius=False)))
            error = abs(middle - expected)
            assert error <= mpmath.mpf(10) ** -38 * max(1, abs(expected)), (text, values)


@pytest.mark.parametrize("name", UNARY)
def test_unary_operators_agree_with_mpmath(name: str) -> None:
    for place in PLACES:
        check(f"{name}(x)", {"x": place})


@pytest.mark.parametrize("name", BINARY)
def test_binary_operators_agree_with_mpmath(name: str) -> None:
    generator = random.Random(name)
    for _ in range(40):
        values = {v: Fraction(generator.randint(-2000, 2000), 512) for v in ("x", "gate")}
        check(f"{name}(x, gate)", values)


@pytest.mark.parametrize(
    ("text", "at", "expected"),
    [
        ("sqrt(x)", "-1", UNDEFINED),
        ("sqrt(x)", "0", 0),
        ("log(x)", "0", UNDEFINED),
        ("log(x)", "-2", UNDEFINED),
        ("log1p(x)", "-1", UNDEFINED),
        ("1/x", "0", UNDEFINED),
        ("x/x", "0", UNDEFINED),
        ("0*(1/x)", "0", UNDEFINED),
        ("sinc(log(x))", "-1", UNDEFINED),  # the library alone gives a finite ball for sinc(nan)
        ("tanh(1/x)", "0", UNDEFINED),
        ("atan(1/x)", "0", UNDEFINED),
        ("sign(sqrt(x))", "-1", UNDEFINED),
        ("max(x, sqrt(x))", "-1", UNDEFINED),
        ("min(sqrt(x), x)", "-1", UNDEFINED),
        ("sigmoid(log(x))", "0", UNDEFINED),
        ("x**0.5", "-1", UNDEFINED),
        ("x**0.5", "0", 0),
        ("x**-0.5", "0", UNDEFINED),
        ("x**(-1)", "0", UNDEFINED),
        ("x**0", "0", 1),
        ("x**(1/3)", "-8", UNDEFINED),
        ("cbrt(x)", "-8", -2),
        ("x**3", "-2", -8),
        ("x**-2", "-2", "0.25"),
        ("asin(x)", "1.5", UNDEFINED),
        ("acosh(x)", "0.5", UNDEFINED),
        ("acosh(x)", "1", 0),
        ("atanh(x)", "1", UNDEFINED),
        ("where(x > 0, sqrt(x), 7)", "-1", 7),
        ("where(x >= 0, 1, 0)", "0", 1),
        ("where(sqrt(x) > 0, 1, 2)", "-1", UNDEFINED),
        ("where(x > 0, 1, 1/x)", "0", UNDEFINED),
        ("sinc(x)", "0", 1),
        ("j1(x)", "0", 0),
    ],
)
def test_definedness_follows_mathematics(text: str, at: str, expected: object) -> None:
    with precision(128):
        ball = ball_value(parse(text), {"x": Fraction(at)})
        if expected is UNDEFINED:
            assert ball is UNDEFINED
        else:
            assert is_value(ball)
            assert ball.contains(exact(Fraction(str(expected))))


def test_numbers_and_constants_are_exact() -> None:
    with precision(400):
        tenth = ball_value(parse("0.1"), {})
        assert (tenth * 10 - 1).contains(0)
        assert abs(tenth * 10 - 1) < exact(Fraction(1, 2**380))
        assert abs(ball_value(parse("sin(pi)"), {})) < exact(Fraction(1, 2**380))
        assert abs(ball_value(parse("log(e) - 1"), {})) < exact(Fraction(1, 2**380))
        small = ball_value(parse("(x + eps) - x - eps"), {"x": Fraction(10**9)})
        assert abs(small) < exact(Fraction(1, 2**340))  # an eps of 53 bits would leave 1e-24


def test_what_balls_cannot_tell_is_undecided() -> None:
    with precision(64):
        zero = ball_value(parse("sin(x)**2 + cos(x)**2 - 1"), {"x": Fraction(1)})
        assert is_value(zero)
        assert not zero.is_zero()
        assert apply_ball("sqrt", zero) is UNDECIDED
        assert apply_ball("log", zero) is UNDECIDED
        assert apply_ball("div", exact(Fraction(1)), zero) is UNDECIDED
        assert apply_ball("gt", zero, exact(Fraction(0))) is UNDECIDED
        assert apply_ball("tanh", UNDECIDED) is UNDECIDED


def test_huge_values_do_not_overflow() -> None:
    with precision(64):
        ball = ball_value(parse("exp(exp(x))/exp(exp(x) - 1)"), {"x": Fraction(12)})
        assert is_value(ball)
        assert ball.overlaps(ball_value(parse("e"), {}))


def test_precision_is_restored() -> None:
    from flint import ctx

    before = ctx.prec
    with pytest.raises(RuntimeError), precision(333):
        raise RuntimeError
    assert ctx.prec == before


def test_steps_that_are_taken_together_give_the_same_balls() -> None:
    """Several expressions at once, next to one node after the other."""
    texts = (
        "max(x, beta)*exp(x)",
        "sqrt(x - beta)",
        "x",
        "log(x)/(x + 1e-7)",
        "0.3 - 3/10",
        "sinc(x)",
    )
    expressions = [parse(text) for text in texts]
    program = Program(*expressions)
    for n in range(-20, 21, 3):
        values = {"x": Fraction(n, 7), "beta": Fraction(5 - n, 3)}
        with precision(128):
            together = program(values)
            for ball, expression in zip(together, expressions, strict=True):
                alone = ball_value(expression, values)
                assert ball is alone or (isinstance(ball, arb) and ball.overlaps(alone))
                assert is_value(ball) == is_value(alone)


@pytest.mark.parametrize(
    ("text", "beyond"),
    [
        ("exp(-exp(exp(x)))", False),  # exp(148) is in range
        ("exp(exp(x**6))", False),  # with 2^14 bits
        ("exp(exp(exp(exp(x))))", False),  # huge
        ("cosh(sinh(exp(exp(exp(x)))))", False),
        ("asinh(exp(exp(exp(exp(x)))))", True),
        ("1/exp(exp(exp(exp(x))))", False),  # 0, nearly
        ("sin(exp(exp(exp(exp(x)))))", True),
        ("sqrt(x - 5)", False),
    ],
)
def test_what_no_precision_brings_into_range(text: str, beyond: bool) -> None:
    program = Program(parse(text))
    found = []
    for bits in (128, 1024, 1 << 14):
        with precision(bits):
            (value,) = program({"x": Fraction(5)})
        found.append(value is not UNDECIDED)
        assert program.beyond <= (not found[-1])
    assert program.beyond == beyond == (not found[-1])
