"""The coarser levels: what they merge, what they must not, and that each change can be replayed."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Sequence
from functools import cache

import mpmath
import pytest

from actsearch.equivalence import Change, EquivalenceClasses, deduplicate, equivalent
from actsearch.equivalence.families import canonical
from actsearch.equivalence.holes import with_holes
from actsearch.grammar import Expression, parse, space
from actsearch.grammar.errors import UsageError
from actsearch.grammar.evaluate import evaluate
from actsearch.grammar.expression import Parameter

REPARAMETERISED = [
    ("beta*x", "-beta*x"),
    ("beta*x", "2*beta*x"),
    ("beta*x", "mix(beta, x, -x)"),
    ("x/beta", "x/(beta + eps)"),
    ("sin(beta*x)", "-sin(beta*x)"),
    ("mix(beta, x, x**2)", "mix(beta, x**2, x)"),
    ("exp(mix(beta, x, sin(x)))", "exp(mix(beta, sin(x), x))"),
    ("a*x + b*sin(x)", "b*x - a*sin(x)"),
    ("(x + a) + b", "x + c"),
    ("a*x + b*x", "c*x"),
    ("beta**3*x", "beta*x"),
    ("sinh(2*beta - 1)*x", "beta*x"),
    ("cos(beta*x)", "cos((1 - beta)*x)"),
    ("x*(beta + 1)**2", "x*beta**2"),
    ("sqrt(x) - beta", "sqrt(x) + beta"),
    ("a*relu(x) + b*min(x, 0)", "b*x + a*abs(x)"),
]
AFFINE = [
    ("sin(x)", "3*sin(x) - 7"),
    ("exp(x)", "exp(-x)"),
    ("relu(x)", "min(x, 0)"),
    ("beta*tanh(x) + gamma", "tanh(x)"),
    ("softplus(x)", "-softplus(-x)*pi"),
    ("x + beta", "x"),
    ("2", "beta"),
    ("max(x, beta)", "min(x, beta)"),
    ("x*sigmoid(x)", "x*sigmoid(-x)"),
]
NOT_REPARAMETERISED = [
    ("beta*x", "beta**2*x"),
    ("beta*x", "exp(beta)*x"),
    ("beta*x", "abs(beta)*x"),
    ("beta*x", "tanh(beta)*x"),
    ("beta*x", "softplus(beta)*x"),
    ("beta*x", "x/beta"),
    ("beta*x", "x"),
    ("a*b*x", "a*x"),
    ("beta*x + beta", "beta*x + gamma"),
    ("beta*x", "beta*(x + 1e-9)"),
    ("sin(x)", "-sin(x)"),
    ("sin(x)", "sin(x) + 1"),
    ("exp(x)", "exp(-x)"),
    ("beta*x + (1 - beta)*sin(x)", "beta*x + beta*sin(x)"),
]
NOT_AFFINE = [
    ("x", "abs(x)"),
    ("sqrt(x)", "0*sqrt(x)"),
    ("sin(x)", "sin(2*x)"),
    ("sin(x)", "sin(x) + x"),
    ("exp(-beta*x**2)", "exp(-x**2)"),
    ("beta*x + beta*x**2", "beta*x + gamma*x**2"),
    ("max(x, -8)", "x"),
    ("x", "x + 1e-12*exp(-x**2)"),
    ("log(x)", "log(abs(x))"),
]


@pytest.mark.parametrize(("a", "b"), REPARAMETERISED)
def test_what_a_bijection_of_the_parameters_carries_over(a: str, b: str) -> None:
    assert not equivalent(a, b)
    assert equivalent(a, b, level="reparameterised")
    assert equivalent(b, a, level="affine")


@pytest.mark.parametrize(("a", "b"), AFFINE)
def test_what_the_neighbouring_layers_absorb(a: str, b: str) -> None:
    assert not equivalent(a, b, level="reparameterised")
    verdict = equivalent(a, b, level="affine")
    assert verdict
    assert verdict.certificate is not None
    assert verdict.certificate.first or verdict.certificate.second


@pytest.mark.parametrize(("a", "b"), NOT_REPARAMETERISED)
def test_what_no_bijection_of_the_parameters_carries_over(a: str, b: str) -> None:
    verdict = equivalent(a, b, level="reparameterised")
    assert verdict.equal is False
    assert verdict.witness is not None


@pytest.mark.parametrize(("a", "b"), NOT_AFFINE)
def test_what_no_layer_absorbs(a: str, b: str) -> None:
    assert equivalent(a, b, level="affine").equal is False


def test_levels_and_holes_are_checked() -> None:
    with pytest.raises(UsageError, match="affine"):
        equivalent("x", "x", level="afine")
    with pytest.raises(UsageError, match="shared"):
        equivalent("x", "x", parameters="share")
    with pytest.raises(UsageError, match="independent"):
        deduplicate(["x"], parameters="own")


def test_holes_are_one_parameter_or_several() -> None:
    assert not equivalent("_*x + _", "beta*(x + 1)")
    assert equivalent("_*x + _", "beta*(x + 1)", parameters="shared")
    assert with_holes("_*x + _ + gamma", "shared") is parse("beta*x + beta + gamma")
    texts = ["_*x + _*sin(x)", "_*(x + sin(x))", "mix(_, x, x)", "x"]
    assert deduplicate(texts).count == 3
    assert deduplicate(texts, parameters="shared").count == 2


def value(expression: Expression, x: mpmath.mpf, values: dict[str, mpmath.mpf]) -> mpmath.mpf:
    at = {p.name: values[p.name] for p in expression.parameters}
    return evaluate(expression, {"x": x, **at}, "mpmath", 40)[()]


def names(expression: Expression) -> set[str]:
    return {p.name for p in expression.parameters}


def agree(a: Expression, b: Expression) -> None:
    """Equal at points in general position, as mpmath has it."""
    shared = sorted(names(a) | names(b))
    with mpmath.workdps(40):
        for place in range(1, 6):
            x = mpmath.mpf((-1) ** place * (7 * place + 3)) / 13
            values = {
                name: mpmath.mpf((5 * number + 3 * place) % 11 - 5) / 7 + mpmath.mpf(1) / 97
                for number, name in enumerate(shared)
            }
            left, right = value(a, x, values), value(b, x, values)
            if mpmath.isnan(left) or mpmath.isnan(right):
                assert mpmath.isnan(left) == mpmath.isnan(right), (str(a), str(b), x)
            else:
                error = abs(left - right)
                assert error <= mpmath.mpf(10) ** -20 * max(1, abs(left)), (str(a), str(b), x)


@pytest.mark.parametrize("level", ["reparameterised", "affine"])
def test_the_change_to_the_canonical_member_is_what_it_says(level: str) -> None:
    for text in space("swish", units=1).sample(120, seed=3):
        expression = parse(text)
        member, change = canonical(expression, level)
        agree(change.applied(expression), member)
        assert Change.from_pairs(dict(change.to_pairs())).applied(expression) is change.applied(
            expression
        )


@pytest.mark.parametrize("level", ["reparameterised", "affine"])
def test_the_canonical_member_does_not_depend_on_the_parameterisation(level: str) -> None:
    changes = ["-p", "2*p", "1 - p", "p/3 + 1", "p - 1/2"]
    texts = [t for t in space("swish", units=1).sample(120, seed=4) if "_" in t]
    for number, text in enumerate(texts):
        expression = with_holes(text, "shared")
        (parameter,) = expression.parameters or (Parameter("beta"),)
        formula = parse(changes[number % len(changes)]).substitute({Parameter("p"): parameter})
        other = expression.substitute({parameter: formula})
        assert equivalent(expression, other, level=level), (text, str(formula))


UNARY = ["x", "-x", "relu(x)", "_*x", "x + _", "exp(x)", "_"]
BINARY = ["({a}) + ({b})", "({a})*({b})", "({a}) - ({b})", "mix(_, {a}, {b})", "max({a}, {b})"]


def small_space() -> list[str]:
    return [form.format(a=a, b=b) for form in BINARY for a, b in itertools.product(UNARY, repeat=2)]


@cache
def grouped(level: str, parameters: str) -> EquivalenceClasses:
    """The classes of the small space: grouped once for all tests."""
    return deduplicate(small_space(), level, parameters=parameters)


def coarser(classes: EquivalenceClasses, finer: EquivalenceClasses) -> bool:
    """Whether the classes are unions of the finer ones."""
    own: dict[int, set[int]] = {}
    for index in range(len(finer.candidates)):
        own.setdefault(finer.class_of(index), set()).add(classes.class_of(index))
    return all(len(numbers) == 1 for numbers in own.values())


@pytest.mark.parametrize("parameters", ["independent", "shared"])
def test_each_level_refines_the_next_and_every_link_can_be_replayed(parameters: str) -> None:
    levels = ["function", "reparameterised", "affine"]
    found = [grouped(level, parameters) for level in levels]
    assert found[0].count > found[1].count > found[2].count
    assert coarser(found[1], found[0])
    assert coarser(found[2], found[1])
    for classes in found:
        assert len(classes.links) == len(classes.candidates) - classes.count
        assert not classes.doubts
        for link in classes.links:
            certificate = link.certificate
            sides = [
                with_holes(classes.candidates[i], parameters) for i in (link.first, link.second)
            ]
            changes = [Change.from_pairs(dict(c)) for c in (certificate.first, certificate.second)]
            a, b = (change.applied(side) for change, side in zip(changes, sides, strict=True))
            renaming = dict(certificate.renaming)
            agree(
                a.substitute({p: Parameter(p.name) for p in a.parameters}),
                b.substitute({p: Parameter(renaming.get(p.name, p.name)) for p in b.parameters}),
            )


# An oracle of its own making: f(x; s·beta + t) for a few s and t, by values at points.
STEPS = [
    (s, t) for s in ("1", "-1", "2", "-2", "1/2", "-1/2") for t in ("0", "1", "-1", "1/2", "-1/2")
]


PLACES = list(itertools.product((-1.7, -0.3, 0.45, 2.2), (-9.3, -1.3, 0.35, 1.9, 8.7)))
FEW = 2


def rows(expression: Expression, places: Sequence[tuple[float, float]]) -> tuple[str, ...]:
    found = []
    with mpmath.workdps(40):
        for x, beta in places:
            number = value(expression, mpmath.mpf(x), {"beta": mpmath.mpf(beta)})
            found.append(mpmath.nstr(number, 20) if abs(number) > 1e-30 else "0")
    return tuple(found)


def test_no_affine_change_of_one_parameter_is_missed() -> None:
    classes = grouped("reparameterised", "shared")
    by_values: dict[tuple[str, ...], int] = {}
    firsts = [classes.members(number)[0] for number in range(classes.count)]
    for number, text in enumerate(firsts):
        by_values[rows(with_holes(text, "shared"), PLACES)] = number
    begins = {row[:FEW] for row in by_values}
    for number, text in list(enumerate(firsts))[::4]:
        expression = with_holes(text, "shared")
        for s, t in STEPS:
            changed = expression.substitute(
                {p: parse(f"{s}*beta + {t}") for p in expression.parameters}
            )
            first = rows(changed, PLACES[:FEW])
            if first in begins:  # else no class has these values
                whole = first + rows(changed, PLACES[FEW:])
                assert by_values.get(whole, number) == number, (text, s, t)


def test_saving_keeps_level_and_changes(tmp_path) -> None:  # type: ignore[no-untyped-def]
    classes = grouped("affine", "shared")
    again = EquivalenceClasses.load(classes.save(tmp_path / "classes.npz"))
    assert again.links == classes.links
    assert again.parameters == "shared"
    assert again.summary() == classes.summary()
    members = classes.indices(again.class_of("5*x + 1"))
    chain = classes.why(members[0], members[-1])
    assert any("with" in str(step) for step in chain)


def test_on_the_command_line() -> None:
    command = [sys.executable, "-m", "actsearch"]
    done = subprocess.run(
        [*command, "equal", "beta*x", "x - 2*beta*x", "--level", "reparameterised", "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0
    assert json.loads(done.stdout)["level"] == "reparameterised"
    done = subprocess.run(
        [*command, "equal", "_*x + _", "beta*(x + 1)", "--parameters", "shared"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0
