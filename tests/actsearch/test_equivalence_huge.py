"""Numbers beyond the range of balls: held against large numbers that are still in it."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from flint import arb

from actsearch.equivalence.balls import Program, apply_ball, ball_value, is_value, precision
from actsearch.equivalence.certificate import Certificate, Unknown, Witness, compare
from actsearch.equivalence.huge import NEGATIVE, POSITIVE, Huge, apply_huge, is_moderate
from actsearch.equivalence.marks import UNDECIDED, UNDEFINED
from actsearch.grammar import parse
from actsearch.grammar.operators import OPERATORS

LARGE = 1 << 40
"""The exponent of a power of 2 that stands for a huge number."""
MODERATE = ("-7", "-1/3", "0", "1/1000", "1", "2", "3", "1e30")
UNARY = sorted(name for name, operator in OPERATORS.items() if operator.arity == 1)
BINARY = ("add", "sub", "mul", "div", "pow", "max", "min", "hypot")


def stand_in(operand: Any) -> Any:
    if isinstance(operand, Huge):
        return arb(2) ** LARGE * (1 if operand is POSITIVE else -1)
    return operand


def assert_alike(rule: Any, large: Any, what: object) -> None:
    """Whether a rule says of huge numbers what the library says of a large one."""
    if rule is UNDECIDED:
        return
    if isinstance(rule, Huge):
        assert is_value(large), what
        assert abs(large) > arb(2) ** (LARGE // 4), what
        assert (large > 0) == (rule is POSITIVE), what
    elif is_value(rule):
        assert abs(rule - large) < arb(2) ** -200, what
    else:
        assert rule is large, what


@pytest.mark.parametrize("name", UNARY)
def test_operators_on_huge_numbers(name: str) -> None:
    with precision(256):
        for huge in (POSITIVE, NEGATIVE):
            rule = apply_huge(name, huge)
            if name in ("exp", "expm1", "sinh", "cosh") and isinstance(rule, Huge):
                large: Any = apply_ball(
                    name, stand_in(huge) / arb(2) ** (LARGE - 60)
                )  # still in range
                assert abs(large) > arb(2) ** (1 << 59)
                assert (large > 0) == (rule is POSITIVE)
            else:
                assert_alike(rule, apply_ball(name, stand_in(huge)), (name, huge))


@pytest.mark.parametrize("name", BINARY)
def test_operators_on_huge_and_other_numbers(name: str) -> None:
    decided = 0
    with precision(256):
        moderate = [ball_value(parse(text), {}) for text in MODERATE]
        pairs = [(huge, other) for huge in (POSITIVE, NEGATIVE) for other in moderate]
        pairs += [(other, huge) for huge, other in pairs]
        pairs += [(a, b) for a in (POSITIVE, NEGATIVE) for b in (POSITIVE, NEGATIVE)]
        for pair in pairs:
            rule = apply_huge(name, *pair)
            decided += rule is not UNDECIDED
            if rule is not UNDECIDED:
                assert_alike(rule, apply_ball(name, *map(stand_in, pair)), (name, pair))
    assert decided >= 6


def test_numbers_between_balls_and_huge_ones() -> None:
    """exp(exp(763)) is a ball, but one that might be as large as a huge number."""
    with precision(2048):
        large = arb(763).exp().exp()
        assert not is_moderate(large)
        for name in ("min", "max", "add", "sub", "mul", "div"):
            for pair in ((large, POSITIVE), (NEGATIVE, large)):
                assert apply_huge(name, *pair) in (UNDECIDED, POSITIVE, NEGATIVE)
        assert apply_huge("min", POSITIVE, large) is UNDECIDED
        assert apply_huge("pow", POSITIVE, large) is UNDECIDED


def test_a_branch_that_is_not_taken_ends_no_search() -> None:
    pair = parse("where(sqrt(2) > sqrt(2) - exp(-200), x + 1, exp(exp(exp(x*x + 10))))")
    program = Program(pair)
    with precision(100):
        assert program({"x": Fraction(1, 3)}) == [UNDECIDED]
        assert not program.beyond
    assert isinstance(compare(pair, parse("x + 2")), Witness)
    assert isinstance(compare(pair, parse("x + 1")), Certificate)


TOWER = "exp(exp(exp(x + 9)))"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (f"exp(-{TOWER})", "0"),
        (f"tanh({TOWER})*x", "2"),
        (f"exp(-(x - {TOWER})**2) + 3", "3"),
        (f"atan(x/{TOWER}) - sigmoid(-{TOWER})", "0"),
        (f"min(x, {TOWER})", "2"),
        (f"max(-3*{TOWER}, x)", "2"),
        (f"0*{TOWER}", "0"),
        (f"{TOWER} - {TOWER}", "UNDECIDED"),
        (f"sin({TOWER})", "UNDECIDED"),
        (f"log({TOWER})", "UNDECIDED"),
        (f"{TOWER}*(sqrt(2)*sqrt(2) - 2)", "UNDECIDED"),
        (f"sqrt(-{TOWER})", "UNDEFINED"),
        (f"{TOWER}/(x - 2)", "UNDEFINED"),
    ],
)
def test_values_by_way_of_huge_numbers(text: str, value: str) -> None:
    values = {"x": Fraction(2)}
    with precision(256):
        (found,) = Program(parse(text))(values)
        assert found is ball_value(parse(text), values) or is_value(found)
        if value in ("UNDECIDED", "UNDEFINED"):
            assert found is {"UNDECIDED": UNDECIDED, "UNDEFINED": UNDEFINED}[value]
        else:
            assert abs(found - ball_value(parse(value), {})) < arb(2) ** -200


def test_what_no_precision_decides_is_known() -> None:
    for text, hopeless in (
        (f"{TOWER} - {TOWER}", True),
        (TOWER, False),
        (f"exp(-{TOWER})", False),
        (f"{TOWER}*(sqrt(2)*sqrt(2) - 2)", False),
    ):
        program = Program(parse(text))
        with precision(256):
            program({"x": Fraction(2)})
        assert program.beyond == hopeless, text


def test_functions_that_vanish_where_balls_end_are_certified() -> None:
    """exp(-|x - C|) and exp(-C) where C is too large for any x to count."""
    constant = "exp(exp(exp(cosh(x) + 9)))"
    first, second = parse(f"exp(-abs(x - {constant}))"), parse(f"exp(-{constant})")
    assert isinstance(compare(first, second), Certificate)
    other = parse(f"exp(-{constant}) + x/1e9")
    assert isinstance(compare(first, other), Witness)


def test_a_quadrant_in_which_nothing_is_decided_certifies_nothing() -> None:
    """Equal for x > 0; for x < 0 both are beyond balls, and no exponentials."""
    first, second = (parse(f"x + exp(exp(exp({rate}*(abs(x) - x))))") for rate in ("1e9", "2e9"))
    decision = compare(first, second)
    assert isinstance(decision, Unknown)
    assert decision.reason == "ball arithmetic could decide nothing where x < 0"


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (TOWER, f"-{TOWER}"),
        (TOWER, "x"),
        (TOWER, f"sqrt(-{TOWER})"),
        ("exp(abs(x - exp(1e7*cosh(x))))", "exp(exp(1e7*cosh(x)))"),  # by a factor exp(-x)
        ("exp((x - exp(1e7*cosh(x)))**2)", "exp(exp(2e7*cosh(x)))"),
        ("exp(abs(x - sinh(1e7*cosh(x))))", "exp(abs(x - cosh(1e7*cosh(x))))"),  # exp(-exp(-C))
    ],
)
def test_functions_that_no_ball_holds_are_told_apart(a: str, b: str) -> None:
    first, second = parse(a), parse(b)
    for pair in ((first, second), (second, first)):
        assert isinstance(compare(*pair), Witness)
    with precision(256):
        assert not is_value(ball_value(first, {"x": Fraction(2)}))


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("exp(abs(x - exp(1e7*cosh(x))))", "exp(exp(1e7*cosh(x)) - x)"),
        ("exp((x - exp(1e7*cosh(x)))**2)", "exp((exp(1e7*cosh(x)) - x)**2)"),
        (TOWER, "exp(exp(exp(x + 10 - 1)))"),
        ("exp(2*cosh(1e7*cosh(x)))", "exp(exp(1e7*cosh(x)) + exp(-1e7*cosh(x)))"),
    ],
)
def test_functions_that_no_ball_holds_are_not_told_apart_where_they_are_equal(
    a: str, b: str
) -> None:
    assert not isinstance(compare(parse(a), parse(b)), Witness)
