"""What decides whether two expressions are one function: certificates and witnesses.

`proved`: both have the same normal form, or the exact algebra of `algebra` reduces their difference
to zero. `certified`: ball arithmetic finds both to agree to a stated number of digits, and to be
undefined together, at stated points on lines through every direction, inside every piece between
switching points. A refusal names a point at which the balls are disjoint, or at which (and around
which) just one of the two is defined.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from functools import cache, lru_cache
from typing import Any

from flint import arb

from actsearch.equivalence import quadrants
from actsearch.equivalence.algebra import proof
from actsearch.equivalence.balls import Ball, Program, ball_value, is_value, precision
from actsearch.equivalence.changes import Change
from actsearch.equivalence.huge import POSITIVE, Huge, is_moderate
from actsearch.equivalence.logarithms import log_of_quotient
from actsearch.equivalence.marks import UNDECIDED, UNDEFINED
from actsearch.equivalence.normal_form import normal_form
from actsearch.equivalence.points import (
    WHOLE_LINE,
    Line,
    Values,
    Window,
    base_points,
    bundled,
    lines,
    points_between,
    switching_points_of,
)
from actsearch.equivalence.roots import Bundle
from actsearch.grammar.expression import Expression, Input, Number, Parameter

DIGITS = 30
"""Digits to which certified values agree, beyond those of the smallest number written in them."""
MIN_POINTS = 16
"""Fewer points than these certify nothing."""
EVERYWHERE: Mapping[str, int] = {}
_MAX_RENAMINGS = 24
_TOGETHER = 16  # lines on which switching points are looked for before anyone asks for the time
_MAX_BITS = 1 << 14
_LONG_EXPONENT = 24  # characters of one that is written in full
_EXPONENT_DIGITS = 12  # of a longer one


@dataclass(frozen=True)
class Certificate:
    """Why two expressions are the same function.

    Attributes:
        kind: "proved" or "certified"; "unproved" for a link that nothing but floats supports.
        method: "identical", "normal form", "algebra", "sign split", "ordering" (on quadrants, see
            `quadrants`) or "ball arithmetic".
        renaming: pairs (parameter of the second, parameter of the first) that were identified.
        points: number of points compared by ball arithmetic.
        digits: decimal digits to which the balls agree there.
        first: at a coarser level, how the first was changed before the comparison (`Change`).
        second: how the second was changed.
    """

    kind: str
    method: str
    renaming: tuple[tuple[str, str], ...] = ()
    points: int = 0
    digits: int = 0
    first: tuple[tuple[str, str], ...] = ()
    second: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        text = f"{self.kind} by {self.method}"
        if self.points:
            text += f" at {self.points} points to {self.digits} digits"
        for which, change in (("first", self.first), ("second", self.second)):
            if change:
                text += f", the {which} with {Change.from_pairs(dict(change))}"
        changed = [f"{old} → {new}" for old, new in self.renaming if old != new]
        return text + (f", with {', '.join(changed)}" if changed else "")

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Certificate:
        """The inverse of `to_dict`."""
        pairs = {
            key: tuple((str(old), str(new)) for old, new in data.get(key, ()))
            for key in ("renaming", "first", "second")
        }
        return cls(**{**data, **pairs})


@dataclass(frozen=True)
class Witness:
    """A point that tells two functions apart.

    Attributes:
        point: input and parameter names with exact values, as decimals or fractions.
        left: the first function's value there, or "undefined".
        right: the second one's.
    """

    point: tuple[tuple[str, str], ...]
    left: str
    right: str

    def __str__(self) -> str:
        place = ", ".join(f"{name} = {value}" for name, value in self.point)
        return f"at {place or 'every point'} one is {self.left}, the other {self.right}"

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {"point": dict(self.point), "left": self.left, "right": self.right}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Witness:
        """The inverse of `to_dict`."""
        return cls(tuple(data["point"].items()), data["left"], data["right"])


@dataclass(frozen=True)
class Unknown:
    """Neither equality nor difference could be settled, and why."""

    reason: str


Decision = Certificate | Witness | Unknown


def decision_to_dict(decision: Decision) -> dict[str, Any]:
    """Plain data for JSON."""
    if isinstance(decision, Certificate):
        return {"certificate": decision.to_dict()}
    if isinstance(decision, Witness):
        return {"witness": decision.to_dict()}
    return {"unknown": decision.reason}


def decision_from_dict(data: Mapping[str, Any]) -> Decision:
    """The inverse of `decision_to_dict`."""
    if "certificate" in data:
        return Certificate.from_dict(data["certificate"])
    if "witness" in data:
        return Witness.from_dict(data["witness"])
    return Unknown(data["unknown"])


class Deadline:
    """A time limit that is asked, not enforced."""

    def __init__(self, seconds: float = math.inf) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    @property
    def passed(self) -> bool:
        """Whether the time is over."""
        return time.monotonic() > self._end


def decide(
    a: Expression,
    b: Expression,
    renamings: Iterable[Mapping[str, str]] | None = None,
    deadline: Deadline | None = None,
    seed: int = 0,
) -> Decision:
    """Whether two expressions are the same function up to a renaming of parameters.

    Args:
        a: an expression.
        b: another.
        renamings: maps from parameters of `b` to parameters of `a` to be tried; by default all of
            them (24 at most).
        deadline: when to give up.
        seed: another seed, other points.
    """
    if a is b:
        return Certificate("proved", "identical")
    deadline = deadline or Deadline()
    witness: Witness | None = None
    unknown: Unknown | None = None
    names = [parameter.name for parameter in a.parameters]
    others = [parameter.name for parameter in b.parameters]
    tried = all_renamings(names, others) if renamings is None else renamings
    for count, renaming in enumerate(tried):
        if count >= _MAX_RENAMINGS:
            unknown = Unknown(f"only {_MAX_RENAMINGS} renamings of the parameters were tried")
            break
        decision = _decide(a, b, complete(renaming, names, others), deadline, seed)
        if isinstance(decision, Certificate):
            return decision
        if isinstance(decision, Unknown):
            unknown = decision
        elif witness is None:
            witness = decision
    return unknown or witness or Unknown("no renaming of the parameters to try")


def all_renamings(names: Sequence[str], others: Sequence[str]) -> Iterator[dict[str, str]]:
    """Every way to identify parameters, first the one by name, then that by order."""
    by_name = {name: name for name in others if name in names}
    first = [by_name] if len(by_name) == min(len(names), len(others)) else []
    yield from first
    if len(others) <= len(names):
        found: Iterator[dict[str, str]] = (
            dict(zip(others, chosen, strict=True))
            for chosen in itertools.permutations(names, len(others))
        )
    else:
        found = (
            dict(zip(chosen, names, strict=True))
            for chosen in itertools.permutations(others, len(names))
        )
    yield from (renaming for renaming in found if renaming not in first)


def complete(
    renaming: Mapping[str, str], names: Sequence[str], others: Sequence[str]
) -> dict[str, str]:
    """A renaming of all parameters of the second; what is left over gets free names."""
    result = dict(renaming)
    spare = [name for name in names if name not in result.values()]
    fresh = (f"_{number}" for number in itertools.count(1))
    for other in others:
        if other not in result:
            if spare:
                result[other] = spare.pop(0)
            else:
                used = {*names, *result.values()}
                result[other] = next(name for name in fresh if name not in used)
    return result


def rename(expression: Expression, renaming: Mapping[str, str]) -> Expression:
    """The expression with its parameters renamed, all at once; their declarations stay behind.

    Two declarations of one name (`alpha = 0.25` and `alpha = 0.01`) become one parameter: as
    functions of it the expressions are compared for every value.
    """
    return expression.substitute(
        {
            parameter: Parameter(renaming.get(parameter.name, parameter.name))
            for parameter in expression.parameters
        }
    )


def _decide(
    a: Expression, b: Expression, renaming: Mapping[str, str], deadline: Deadline, seed: int
) -> Decision:
    names = [parameter.name for parameter in a.parameters]
    names += [name for name in renaming.values() if name not in names]
    numbered = {name: f"_{place}" for place, name in enumerate(names, 1)}
    left = rename(a, numbered)
    right = rename(b, {old: numbered[new] for old, new in renaming.items()})
    pairs = tuple(renaming.items())
    if left is right:
        return Certificate("proved", "normal form", pairs)
    left_form, right_form = normal_form(left), normal_form(right)
    if left_form is right_form:
        return Certificate("proved", "normal form", pairs)
    if deadline.passed:
        return Unknown(f"undecided after {deadline.seconds:g} s")
    decision = compare(left, right, deadline, seed)
    if isinstance(decision, Certificate):
        method = proof(left_form, right_form)
        if method is None and quadrants.proves_equal(left, right):
            method = "ordering"
        if method is not None:
            return Certificate("proved", method, pairs)
        return Certificate(decision.kind, decision.method, pairs, decision.points, decision.digits)
    if isinstance(decision, Witness):
        back = {number: name for name, number in numbered.items()}
        point = tuple((back.get(name, name), value) for name, value in decision.point)
        return Witness(point, decision.left, decision.right)
    return decision


def compare(
    a: Expression,
    b: Expression,
    deadline: Deadline | None = None,
    seed: int = 0,
    within: Mapping[str, int] = EVERYWHERE,
) -> Decision:
    """Ball arithmetic on both, names as they are: a certificate, a witness, or Unknown.

    Args:
        a: an expression.
        b: another.
        deadline: when to give up.
        seed: another seed, other points.
        within: signs of inputs and parameters; points with other signs are left out.
    """
    pair = Pair(a, b)
    places = _base_places(pair.names, seed, frozenset(within.items()))
    further = pair.between_switches(seed, within)
    return pair.compared(itertools.chain(places, further), deadline or Deadline())


def through(values: Values, names: tuple[str, ...]) -> Line:
    """A line through a point, along the first name."""
    start = tuple(values[name] for name in names)
    return Line(names, start, tuple(Fraction(int(place == 0)) for place in range(len(names))))


Place = tuple[Line, Fraction]
"""A line, and a place on it."""


@lru_cache(maxsize=64)
def _base_places(
    names: tuple[str, ...], seed: int, signs: frozenset[tuple[str, int]]
) -> tuple[Place, ...]:
    """The points at which any expressions of these names are compared."""
    return tuple(
        (line, t)
        for line in _lines_within(names, seed, signs)
        for t in base_points(line, seed)
        if _lies_within(line.at(t), signs)
    )


@lru_cache(maxsize=64)
def _lines_within(
    names: tuple[str, ...], seed: int, signs: frozenset[tuple[str, int]]
) -> tuple[Line, ...]:
    """The lines that reach points with these signs."""
    wanted = dict(signs)
    return tuple(
        line
        for line in lines(names, seed)
        if not any(
            not slope and start * wanted.get(name, 0) < 0
            for name, start, slope in zip(names, line.start, line.direction, strict=True)
        )
    )


@lru_cache(maxsize=64)
def _bundles(
    names: tuple[str, ...], seed: int, signs: frozenset[tuple[str, int]]
) -> tuple[tuple[tuple[Line, ...], tuple[Window, ...], Bundle], ...]:
    """The lines that reach points with these signs, where they do, and both as one; some a time."""
    found = _lines_within(names, seed, signs)
    cuts = range(0, len(found), _TOGETHER)
    parts = [found[start : start + _TOGETHER] for start in cuts]
    windows = [tuple(_window(line, dict(signs)) for line in part) for part in parts]
    return tuple((part, own, bundled(part, own)) for part, own in zip(parts, windows, strict=True))


def _window(line: Line, signs: Mapping[str, int]) -> Window:
    """Between which t a line has points with these signs."""
    low, high = WHOLE_LINE
    for name, start, slope in zip(line.names, line.start, line.direction, strict=True):
        if slope and name in signs:
            if slope * signs[name] > 0:
                low = max(low, float(-start / slope))
            else:
                high = min(high, float(-start / slope))
    return low, high


def _lies_within(values: Values, signs: frozenset[tuple[str, int]]) -> bool:
    return all(values[name] * sign > 0 for name, sign in signs if name in values)


@lru_cache(maxsize=10_000)
def _smallest_number(expression: Expression) -> int:
    """Decimal places that the numbers of an expression take together."""
    places = 0
    for node in expression.postorder():
        if isinstance(node, Number) and 0 < abs(node.value) < 1:
            places += math.ceil(
                (node.value.denominator.bit_length() - abs(node.value.numerator).bit_length())
                * math.log10(2)
            )
    return places


def _smallest_digits(a: Expression, b: Expression) -> int:
    return min(2 * max(_smallest_number(a), _smallest_number(b)), 4000)


class Pair:
    """Two expressions that are compared at many points.

    Attributes:
        names: of their inputs and parameters, x first.
        digits: to which they have to agree.
    """

    def __init__(self, a: Expression, b: Expression) -> None:
        self._both = a, b
        self._program = Program(a, b)
        self._rewritten: dict[tuple[Expression, ...], Program] = {}
        gates = {node.name for e in (a, b) for node in e.inputs} - {"x"}
        parameters = {parameter.name for e in (a, b) for parameter in e.parameters}
        self.names = ("x", *sorted(gates), *sorted(parameters))
        self.digits = DIGITS + _smallest_digits(a, b)

    def between_switches(
        self, seed: int = 0, within: Mapping[str, int] = EVERYWHERE
    ) -> Iterator[Place]:
        """Points in each piece of the two along some lines."""
        signs = frozenset(within.items())
        for together, windows, bundle in _bundles(self.names, seed, signs):
            found = switching_points_of(self._both, bundle)
            for line, window, breaks in zip(together, windows, found, strict=True):
                for t in points_between(breaks, window):
                    if _lies_within(line.at(t), signs):
                        yield line, t

    def compared(self, places: Iterable[Place], deadline: Deadline, agreed: int = 0) -> Decision:
        """What ball arithmetic says of them at some places.

        Args:
            places: where they are compared.
            deadline: when to give up.
            agreed: at how many places they are known to agree.
        """
        known = agreed
        decided: dict[tuple[bool, ...], int] = {}
        for line, t in places:
            if deadline.passed:
                return Unknown(f"undecided after {deadline.seconds:g} s")
            verdict = self.at(line, t)
            if isinstance(verdict, Witness):
                return verdict
            agreed += verdict
            signs = () if known else _signs(line.at(t))
            if signs:
                decided[signs] = decided.get(signs, 0) + verdict
        if 0 in decided.values():  # the functions may differ on all of a quadrant
            signs = next(signs for signs, count in decided.items() if not count)
            where = (f"{n} {'>' if s else '<'} 0" for n, s in zip(self.names, signs, strict=False))
            return Unknown(f"ball arithmetic could decide nothing where {' and '.join(where)}")
        if agreed < MIN_POINTS:
            return Unknown(f"ball arithmetic could decide at {agreed} points only")
        return Certificate("certified", "ball arithmetic", (), agreed, self.digits)

    def at(self, line: Line, t: Fraction) -> Witness | bool:
        """Whether they agree at a point; False also where nothing can be said."""
        values = line.at(t)
        left, right = self.values_at(values)
        if left is UNDECIDED or right is UNDECIDED:
            return False
        if (left is UNDEFINED) != (right is UNDEFINED):
            return self._definedness(line, t)
        if isinstance(left, Huge) and left is right:
            return self._of_other_size(line, t)
        if left is UNDEFINED or not _disjoint(left, right):
            return left is UNDEFINED or agree(left, right, self.digits)
        if self._isolated(line, t):
            return False
        return _witness(*self._both, values, left, right)

    def _of_other_size(self, line: Line, t: Fraction) -> Witness | bool:
        """Both are beyond the range of balls: a witness if the logarithm of a/b is not 0."""
        values = line.at(t)
        logarithm = log_of_quotient(*self._both, values)
        if logarithm is None or self._isolated(line, t):
            return False
        with precision(256):
            ball = ball_value(logarithm, values)
            if not is_value(ball) or ball.contains(0):
                return False
            factor = f"exp({ball.str(10, radius=False)}) times the other"
        return _witness_of(*self._both, values, factor, _shown(POSITIVE, None))

    def values_at(self, values: Values) -> tuple[Ball | Huge, Ball | Huge]:
        """Both values, at a precision that decides: disjoint, or agreeing to `digits` digits."""
        found = self._enclosed(self._program, values)
        if UNDECIDED not in found:
            return found
        sizes = quadrants.sizes(self._both, values)
        if sizes is None:
            return found
        leaves, inside = sizes
        signs = tuple(leaves.values())
        if signs not in self._rewritten:
            forms = (normal_form(side.substitute(leaves)) for side in self._both)
            self._rewritten[signs] = Program(*forms)
        return self._enclosed(self._rewritten[signs], inside)

    def _enclosed(self, program: Program, values: Values) -> tuple[Ball | Huge, Ball | Huge]:
        bits = math.ceil(self.digits * 3.33) + 32
        while True:
            with precision(bits):
                left, right = program(values)
                decided = left is not UNDECIDED and right is not UNDECIDED
                if decided and not (is_value(left) and is_value(right)):
                    return left, right
                if decided and (_disjoint(left, right) or agree(left, right, self.digits)):
                    return left, right
            if not decided and program.beyond:
                return UNDECIDED, UNDECIDED
            bits *= 2
            if bits > max(_MAX_BITS, 8 * self.digits):
                return UNDECIDED, UNDECIDED

    def _isolated(self, line: Line, t: Fraction) -> bool:
        """Whether one of them is undefined on both sides of t: there values do not count.

        (-1)**1 is defined, but x**(-x) is not around x = -1.
        """
        step = _step(t)
        with precision(256):
            sides = [self._program(line.at(near)) for near in (t - step, t + step)]
        return all(UNDEFINED in side for side in sides)

    def _definedness(self, line: Line, t: Fraction) -> Witness | bool:
        """Just one is defined at t: a witness if that is so around t, too; else t is isolated."""
        step = _step(t)
        for near in (t - step, t + step):
            values = line.at(near)
            left, right = self.values_at(values)
            if (left is UNDEFINED and _is_number(right)) or (
                right is UNDEFINED and _is_number(left)
            ):
                return _witness(*self._both, values, left, right)
        return False


def _signs(values: Values) -> tuple[bool, ...]:
    """In which quadrant of the first two names a point lies; none on an axis."""
    first = tuple(itertools.islice(values.values(), 2))
    return tuple(value > 0 for value in first) if all(first) else ()


def _step(t: Fraction) -> Fraction:
    """How far a point lies from what is around it."""
    return Fraction(1 + abs(t)) * Fraction(1234567, 1 << 44)


def differ_at(a: Expression, b: Expression, values: Values) -> bool:
    """Whether ball arithmetic tells two expressions apart at, and around, a point."""
    line = through(values, tuple(values))
    return isinstance(Pair(a, b).at(line, Fraction(0)), Witness)


def _is_number(value: Ball | Huge) -> bool:
    return is_value(value) or isinstance(value, Huge)


def _disjoint(left: arb | Huge, right: arb | Huge) -> bool:
    if isinstance(left, arb) and isinstance(right, arb):
        return not left.overlaps(right)
    return all(isinstance(side, Huge) or is_moderate(side) for side in (left, right))


def agree(left: arb | Huge, right: arb | Huge, digits: int) -> bool:
    """|left − right| ≤ 10^-digits · max(1, |left|), rigorously."""
    if isinstance(left, Huge) or isinstance(right, Huge):
        return False
    size = max(arb(1), left.abs_lower())
    return bool(abs(left - right) <= size * _share(digits))


@cache
def _share(digits: int) -> arb:
    """10^-digits, the same at every precision."""
    with precision(64):
        return arb(10) ** -digits


def _witness(
    a: Expression, b: Expression, values: Values, left: Ball | Huge, right: Ball | Huge
) -> Witness:
    return _witness_of(a, b, values, _shown(left, right), _shown(right, left))


def _witness_of(a: Expression, b: Expression, values: Values, left: str, right: str) -> Witness:
    used = {
        node.name for e in (a, b) for node in e.postorder() if isinstance(node, Input | Parameter)
    }
    point = tuple((name, _decimal(value)) for name, value in values.items() if name in used)
    return Witness(point, left, right)


def _decimal(value: Fraction) -> str:
    as_float = float(value)
    return repr(as_float) if Fraction(as_float) == value else str(value)


def _shown(ball: Any, other: Any) -> str:
    """A value with as many digits as it takes to see the difference."""
    if ball is UNDEFINED:
        return "undefined"
    if isinstance(ball, Huge):
        return f"{'' if ball is POSITIVE else '-'}too large to be written"
    digits = 10
    while is_value(other) and digits < 400:
        text = _written(ball, digits)
        if text != _written(other, digits):
            return text
        digits *= 2
    return _written(ball, digits)


def _written(ball: arb, digits: int) -> str:
    """In decimal, the exponent too if it is long: 1.5e+(2.4680e+1017)."""
    text = str(ball.str(digits, radius=False))
    mantissa, _, exponent = text.partition("e")
    if len(exponent) <= _LONG_EXPONENT:
        return text
    sign, first, rest = exponent[0], exponent[1], exponent[2:]
    return f"{mantissa}e{sign}({first}.{rest[:_EXPONENT_DIGITS]}e+{len(rest)})"
