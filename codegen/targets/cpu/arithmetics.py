"""What C computes with: float32, pairs of float32, or float64, and what each of them carries.

What rounding takes from the argument of an exponential or a trigonometric function is carried
along, because they enlarge it: exp(a*b) is computed as exp(t + low), where t + low is the product
without rounding. Pairs carry it through everything: a step is a number and what that lacks, and
results are rounded about once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Set
from typing import Any, ClassVar

from actsearch.codegen.programs import Earlier, Operand, Routine, Step, to_single
from actsearch.codegen.targets.base import ATOM, Code, Function, Renderer
from actsearch.codegen.targets.cpu.elementary import SIGNATURES, may_lose
from actsearch.grammar.operators import COMPARISONS, OPERATORS

BOUNDS = {"max": "at_least", "min": "at_most"}
"""Functions that are cheaper where one operand is a number."""

SUMS = frozenset({"add", "sub"})
_ARITHMETIC = frozenset({"add", "sub", "mul", "div", "neg"})
_FUSED = frozenset({"tanh_of_softplus", "sigmoid_of_softplus"})


def _functions() -> dict[str, Function]:
    """The operators that elementary.c has, in both precisions, and the condition."""
    found: dict[str, Function] = {"where": "({a} ? {b} : {c})"}
    for name, formals in SIGNATURES.items():
        operator, _, precision = name.rpartition("_")
        if precision == "f32" and operator in OPERATORS:
            count = formals.count("float")
            found[operator] = (
                f"{operator}({', '.join(f'{{{formal}}}' for formal in 'abc'[:count])})"
            )
    return found


class CRenderer(Renderer):
    """Operations as C, and what their rounding needs; the base writes infix operators."""

    name = "cpu"
    functions: ClassVar[Mapping[str, Function]] = _functions()
    real: ClassVar[str]
    precision: ClassVar[str]
    normalised: ClassVar[bool] = False
    """Whether sums and quotients keep less than half a unit in their rests."""

    passing: ClassVar[Set[str]] = _ARITHMETIC | BOUNDS.keys() | {"abs", "relu", "where"}
    """Operators that pass on what rounding took from an operand."""

    def literal(self, value: float) -> str:
        raise NotImplementedError

    def rest_of(self, value: float) -> str:
        """What a number lacks as a literal, as code; empty where that is nothing."""
        return ""

    def call(
        self, operator: str, operands: Sequence[Code], low: str | None, rest: str | None = None
    ) -> str:
        """A function of elementary.c, of an argument that lacks `low`, to leave what it lacks."""
        form = "_pair" if rest else "_wide" if low else ""
        name = f"{operator}{form}_{self.precision}"
        arguments = [operand.text for operand in operands]
        arguments += [low or "-0.0f"] if form else []
        arguments += [f"&{rest}"] if rest else []
        arguments += ["&lost"] if may_lose(name) else []
        return f"{name}({', '.join(arguments)})"

    def checks(self, routine: Routine) -> bool:
        """Whether a result that is not finite asks for more digits."""
        return False

    def carries(self, operator: str) -> bool:
        """Whether the rounding of the operator's argument matters."""
        return False

    def pairs(self, operator: str) -> bool:
        """Whether what the operator's result lacks is known."""
        return False

    def is_quotient(self, step: Step) -> bool:
        """Whether it divides pairs: one division gives both numbers of the result."""
        return step.operator == "div" and self.normalised

    def fused(self, step: Step, steps: Sequence[Step]) -> tuple[Any, ...]:
        """A function of elementary.c for a step and the one before it, and its operands."""
        inner = _earlier(step.operands[0], steps)
        if step.operator == "tanh" and inner and inner.operator == "softplus":
            return "tanh_of_softplus", inner.operands[0]
        if step.operator == "sigmoid" and inner and inner.operator == "mul":
            factor, product = inner.operands
            twice = _earlier(product, steps)
            if factor in (2.0, -2.0) and twice and twice.operator == "softplus":
                return "sigmoid_of_softplus", twice.operands[0], factor
        return ()

    def simplified(self, step: Step) -> Step:
        """A step as this precision computes it."""
        if step.operator in BOUNDS and isinstance(step.operands[0], float):
            return Step(step.operator, step.operands[::-1])
        return step

    def corrected(self, routine: Routine) -> set[int]:
        """The steps to which is added what rounding took from their operands."""
        return set()

    def carried(self, routine: Routine, corrected: Set[int]) -> set[int]:
        """The steps whose rounding reaches a function that enlarges it."""
        needed: set[int] = set()
        pending = [
            operand.step
            for place, step in enumerate(routine.steps)
            for operand in (step.operands if place in corrected else step.operands[:1])
            if (place in corrected or self.carries(step.operator)) and isinstance(operand, Earlier)
        ]
        while pending:
            place = pending.pop()
            step = self.simplified(routine.steps[place])
            fused = self.fused(step, routine.steps)
            if place not in needed and self.pairs(fused[0] if fused else step.operator):
                needed.add(place)
            elif place not in needed and step.operator in self.passing:
                needed.add(place)
                values = step.operands[1 if step.operator == "where" else 0 :]
                pending += [o.step for o in values if isinstance(o, Earlier)]
        return needed


class Single(CRenderer):
    """In float32."""

    real = "float"
    precision = "f32"

    def literal(self, value: float) -> str:
        return _literal(to_single(value), "f")

    def rest_of(self, value: float) -> str:
        rest = value - to_single(value)
        return self.number(to_single(rest)).within(ATOM) if math.isfinite(rest) and rest else ""

    def checks(self, routine: Routine) -> bool:
        return not routine.is_total  # a division by 0

    def carries(self, operator: str) -> bool:
        return f"{operator}_wide_f32" in SIGNATURES

    def pairs(self, operator: str) -> bool:
        return operator in _FUSED  # they know it anyway

    def corrected(self, routine: Routine) -> set[int]:
        """The sums of gradients, which cancel near roots; none that decides on which side x is."""
        if routine.name == "forward":
            return set()
        inner: set[int] = set()  # the steps that something else than arithmetic looks at
        for place, step in reversed(list(enumerate(routine.steps))):
            passes = step.operator in _ARITHMETIC and place not in inner
            branches = step.operands[1:] if step.operator == "where" and place not in inner else ()
            for operand in step.operands:
                if isinstance(operand, Earlier) and not passes and operand not in branches:
                    inner.add(operand.step)
        return {
            place
            for place, step in enumerate(routine.steps)
            if step.operator in SUMS and place not in inner
        }

    def simplified(self, step: Step) -> Step:
        step = super().simplified(step)
        divisor = step.operands[-1]
        if step.operator == "div" and isinstance(divisor, float) and divisor:
            is_exact = abs(math.frexp(divisor)[0]) == 0.5
            if is_exact or divisor != to_single(divisor):  # else neither would be exact
                return Step("mul", (step.operands[0], 1 / divisor))
        return step


class Paired(Single):
    """In float32, each step with what it lacks."""

    normalised = True

    def checks(self, routine: Routine) -> bool:
        return True  # what an infinity lacks is NaN

    def carries(self, operator: str) -> bool:
        return super().carries(operator) or self.pairs(operator)

    def pairs(self, operator: str) -> bool:
        return f"{operator}_pair_f32" in SIGNATURES

    def corrected(self, routine: Routine) -> set[int]:
        """The last operations, but none that decides on which side x is."""
        found: set[int] = set()
        compared = {
            operand
            for step in routine.steps
            if step.operator in COMPARISONS
            for operand in step.operands
        }
        pending = list(routine.results)
        while pending:
            operand = pending.pop()
            if not isinstance(operand, Earlier) or operand in compared:
                continue
            step = routine.steps[operand.step]
            if step.operator in _ARITHMETIC - {"neg"}:
                found.add(operand.step)
            elif step.operator in self.passing:
                pending += step.operands
        return found


class Double(CRenderer):
    """In float64."""

    real = "double"
    precision = "f64"

    def literal(self, value: float) -> str:
        return _literal(value, "")


RENDERERS = {"f32": Single(), "pairs": Paired(), "f64": Double()}


def _earlier(operand: Operand, steps: Sequence[Step]) -> Step | None:
    return steps[operand.step] if isinstance(operand, Earlier) else None


def _literal(value: float, suffix: str) -> str:
    if math.isinf(value):
        return "INFINITE" if value > 0 else "-INFINITE"
    return "UNDEFINED" if math.isnan(value) else f"{value!r}{suffix}"
