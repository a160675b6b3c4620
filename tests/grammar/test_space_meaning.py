"""What sentences of the `swish` space denote, built from the derivation instead of the text."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count

import pytest

from actsearch.grammar import Expression, Input, Number, Parameter, call, parse, space
from actsearch.grammar.derivation import Derivation

Build = Callable[..., Expression]
EPSILON = Number("1e-7")


def unary(name: str) -> Build:
    return lambda x, hole: call(name, x)


UNARY: dict[str, Build] = {
    "identity": lambda x, hole: x,
    "neg": unary("neg"),
    "abs": unary("abs"),
    "square": lambda x, hole: call("pow", x, 2),
    "cube": lambda x, hole: call("pow", x, 3),
    "sqrt": unary("sqrt"),
    "log_abs": lambda x, hole: call("log", call("add", call("abs", x), EPSILON)),
    "exp": unary("exp"),
    "sin": unary("sin"),
    "cos": unary("cos"),
    "sinh": unary("sinh"),
    "cosh": unary("cosh"),
    "tanh": unary("tanh"),
    "asinh": unary("asinh"),
    "atan": unary("atan"),
    "sinc": unary("sinc"),
    "positive": lambda x, hole: call("max", 0, x),
    "negative": lambda x, hole: call("min", 0, x),
    "sigmoid": unary("sigmoid"),
    "softplus": unary("softplus"),
    "gaussian": lambda x, hole: call("exp", call("neg", call("pow", x, 2))),
    "erf": unary("erf"),
}
BINARY: dict[str, Build] = {
    "add": lambda a, b: call("add", a, b),
    "mul": lambda a, b: call("mul", a, b),
    "sub": lambda a, b: call("sub", a, b),
    "max": lambda a, b: call("max", a, b),
    "min": lambda a, b: call("min", a, b),
    "gate": lambda a, b: call("mul", a, call("sigmoid", b)),
}


def build(derivation: Derivation, holes: Iterator[Parameter]) -> Expression:
    """The expression of a derivation; holes are numbered in the order of the text."""
    label, children = derivation.production.label, derivation.children
    rule = derivation.grammar.rules[derivation.production.rule]
    if rule == "operand" and label == "input":
        return Input("x")
    if rule in ("start", "operand"):
        return build(children[0], holes)
    if rule == "unary":
        if label == "parameter":
            return next(holes)
        if label == "scale":
            hole = next(holes)
            return call("mul", hole, build(children[0], holes))
        if label == "shift":
            return call("add", build(children[0], holes), next(holes))
        return UNARY[label](build(children[0], holes), None)
    own = next(holes) if label in ("mix", "gaussian_distance", "laplace_distance") else None
    a, b = (build(child, holes) for child in children)
    if label == "mix":
        assert own is not None
        rest = call("mul", call("sub", 1, own), b)
        return call("add", call("mul", own, a), rest)
    if label == "div":
        return call("div", a, call("add", b, EPSILON))
    if own is not None:
        distance = call("sub", a, b)
        shape = call("abs", distance) if label[0] == "l" else call("pow", distance, 2)
        return call("exp", call("mul", call("neg", own), shape))
    return BINARY[label](a, b)


@pytest.mark.parametrize(("units", "n"), [(1, 400), (2, 800), (3, 800)])
def test_sentences_mean_what_their_derivation_says(units: int, n: int) -> None:
    swish = space("swish", units)
    for index in swish.sample_indices(n, seed=units):
        holes = (Parameter(f"_{number}") for number in count(1))
        expected = build(swish.derivation(index), holes)
        assert swish.expression(index) is expected, swish[index]


def test_one_unit_by_its_text_alone() -> None:
    swish = space("swish")
    for index in range(0, swish.count(), 7):
        holes = (Parameter(f"_{number}") for number in count(1))
        assert parse(swish[index]) is build(swish.derivation(index), holes), swish[index]


def test_the_operators_are_those_of_the_paper() -> None:
    swish = space("swish")
    by_rule: dict[str, list[str]] = {rule: [] for rule in ("unit", "unary", "operand")}
    for name in swish.components:
        rule, _, label = name.partition(":")
        by_rule[rule].append(label)
    assert len(by_rule["unary"]) == 25
    assert len(by_rule["unit"]) == 10
    assert by_rule["operand"] == ["input", "nested"]
