"""Programs: straight-line scalar code for an activation, its gradient and its second derivative.

A program is what every target renders. It has three routines:

    forward           y = f(x, p)
    backward          dv = dy * df/dv            for every input and parameter v
    double_backward   the gradient of sum_v wv*dv for dy and for every v, given weights wv

Nothing is saved between them but the inputs and the parameters. Sub-expressions that occur twice
are one step, because expressions are interned. What a parameter gets is its contribution at one
element; a target sums it over the elements that share the parameter.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from actsearch.codegen.gradients import CLEAN, ZERO, differentiate
from actsearch.codegen.guards import guard
from actsearch.codegen.stable import stabilise
from actsearch.codegen.trials import LARGEST
from actsearch.grammar.evaluate import evaluate
from actsearch.grammar.expression import Apply, Constant, Expression, Input, Number, Parameter
from actsearch.grammar.language import as_expression
from actsearch.grammar.operators import COMMUTATIVE, COMPARISONS, OPERATORS

DY = Parameter("∂y")
"""The gradient of the loss for y; no user can write this name."""

# Operators whose results have signs that those of their operands tell, and those that never round.
_SIGN_KEEPING = {"neg", "abs", "sign", "relu", "max", "min", "sqrt"}
EXACT = (_SIGN_KEEPING - {"sqrt"}) | {"where"} | COMPARISONS
_DOMAIN_BY_SIGN = {"sqrt", "log"}
_FAR = {("gt", LARGEST), ("lt", -LARGEST)}
_WHOLE_POWERS = 16  # up to here a whole power becomes multiplications


@dataclass(frozen=True)
class Earlier:
    """The result of an earlier step."""

    step: int


Operand = Earlier | float | Expression
"""What a step works on: an earlier result, a constant, or an argument."""


@dataclass(frozen=True)
class Step:
    """One scalar operation: an operator of the table on operands."""

    operator: str
    operands: tuple[Operand, ...]


@dataclass(frozen=True)
class Routine:
    """Straight-line code.

    Attributes:
        name: "forward", "backward" or "double_backward".
        arguments: the variables that it reads.
        outputs: for each result what it is the value of, or the gradient for.
        expressions: the results as expressions over the arguments.
    """

    name: str
    arguments: tuple[Expression, ...]
    outputs: tuple[str, ...]
    expressions: tuple[Expression, ...]

    @cached_property
    def code(self) -> tuple[tuple[Step, ...], tuple[Operand, ...]]:
        """The steps, in order, and where the results are."""
        steps: list[Step] = []
        place: dict[Expression, Operand] = {}
        known: dict[tuple[str, tuple[Operand, ...]], Earlier] = {}
        for node in _postorder(self.expressions):
            if isinstance(node, Number):
                place[node] = float(node.value)
            elif not isinstance(node, Apply):
                place[node] = node
            else:
                operands = tuple(place[argument] for argument in node.arguments)
                if all(isinstance(operand, float) for operand in operands):
                    place[node] = float(evaluate(node, {}))  # inf or nan: `lower` did the rest
                    continue
                name = node.operator.name
                if name in COMMUTATIVE and (name, operands[::-1]) in known:
                    operands = operands[::-1]
                if (name, operands) not in known:
                    known[name, operands] = Earlier(len(steps))
                    steps.append(Step(name, operands))
                place[node] = known[name, operands]
        return tuple(steps), tuple(place[result] for result in self.expressions)

    @cached_property
    def is_total(self) -> bool:
        """Whether signs show that rounding leads no step out of its domain, as to x/0 or log(0)."""
        lowest: dict[Operand, float] = {}  # lower bounds of the steps
        for place, step in enumerate(self.steps):
            bounds = [
                to_single(operand) if isinstance(operand, float) else lowest.get(operand, -math.inf)
                for operand in step.operands
            ]
            if OPERATORS[step.operator].domain and not self._decides_truly(step):
                bound = bounds[-1 if step.operator == "div" else 0]
                if not (bound > 0 or (bound == 0 and step.operator == "sqrt")):
                    return False
            lowest[Earlier(place)] = _lowest(step, bounds)
        return True

    @cached_property
    def undefined(self) -> tuple[frozenset[int], ...]:
        """For each step those that make it NaN, being NaN where the function is undefined."""
        return self._undefined(by_conditions=False)

    @cached_property
    def unfounded(self) -> tuple[frozenset[int], ...]:
        """`undefined`, and those that make a condition of the step compare what is undefined."""
        return self._undefined(by_conditions=True)

    def _undefined(self, by_conditions: bool) -> tuple[frozenset[int], ...]:
        found: list[frozenset[int]] = []
        for place, step in enumerate(self.steps):
            inner = [
                found[operand.step] if isinstance(operand, Earlier) else frozenset()
                for operand in step.operands
            ]
            sources = frozenset[int]().union(*inner)
            if step.operator == "where":
                of_branches = inner[2] if self._is_far(step.operands[0]) else inner[1] & inner[2]
                sources = inner[0] | of_branches
            elif step.operator in COMPARISONS and not by_conditions:
                sources = frozenset()
            is_source = len(inner) == 1 and OPERATORS[step.operator].domain
            found.append(sources | {place} if is_source and self._decides_truly(step) else sources)
        return tuple(found)

    def _is_far(self, condition: Operand) -> bool:
        """Whether a condition holds for an infinite input and for nothing else."""
        if not isinstance(condition, Earlier):
            return False
        step = self.steps[condition.step]
        bound = step.operands[1]
        is_of_input = isinstance(step.operands[0], Input)
        return is_of_input and isinstance(bound, float) and (step.operator, bound) in _FAR

    def _decides_truly(self, step: Step) -> bool:
        """Whether a step is out of its domain, or infinite, only where exact arithmetic is, too."""
        exact, of_true_sign = self._faithful
        if step.operator == "div":
            return not isinstance(step.operands[1], Earlier)
        known = of_true_sign if step.operator in _DOMAIN_BY_SIGN else exact
        return all(self._is_known(operand, known) for operand in step.operands)

    @staticmethod
    def _is_known(operand: Operand, known: set[int]) -> bool:
        if isinstance(operand, Earlier):
            return operand.step in known
        return not isinstance(operand, float) or to_single(operand) == operand

    @cached_property
    def _faithful(self) -> tuple[set[int], set[int]]:
        """The steps that nothing rounds, and those whose sign is that of the exact value."""
        exact: set[int] = set()
        of_true_sign: set[int] = set()
        for place, step in enumerate(self.steps):
            if step.operator in EXACT and all(self._is_known(o, exact) for o in step.operands):
                exact.add(place)
            keeps_signs = step.operator in _SIGN_KEEPING
            if place in exact or (
                keeps_signs and all(self._is_known(o, of_true_sign) for o in step.operands)
            ):
                of_true_sign.add(place)
        return exact, of_true_sign

    @cached_property
    def roundings(self) -> int:
        """How many steps round their results."""
        return sum(step.operator not in EXACT for step in self.steps)

    @property
    def steps(self) -> tuple[Step, ...]:
        """The operations, each after those that it uses."""
        return self.code[0]

    @property
    def results(self) -> tuple[Operand, ...]:
        """Where each output is found."""
        return self.code[1]


@dataclass(frozen=True)
class Program:
    """The scalar code of an activation.

    Attributes:
        expression: what the user wrote.
        value: the same function in stable form, from which the gradients are derived.
        inputs: "x", or "x" and "gate".
        parameters: the trainable parameters.
        forward, backward: the routines; `double_backward` is derived when it is asked for.
    """

    expression: Expression
    value: Expression
    inputs: tuple[Input, ...]
    parameters: tuple[Parameter, ...]
    forward: Routine
    backward: Routine

    @cached_property
    def double_backward(self) -> Routine:
        """The third routine; it takes longest to derive, and few programs need it."""
        variables = self.variables
        weights = [weight(variable) for variable in variables]
        weighted: Expression = ZERO
        for slope, factor in zip(_slopes(self.value, variables), weights, strict=True):
            weighted = CLEAN.build("add", weighted, CLEAN.build("mul", slope, factor))
        seconds = prepared(differentiate(weighted, (DY, *variables)))
        outputs = (DY.name, *(variable.name for variable in variables))
        return Routine("double_backward", (*weights, DY, *variables), outputs, tuple(seconds))

    @property
    def variables(self) -> tuple[Input | Parameter, ...]:
        """Inputs, then parameters."""
        return (*self.inputs, *self.parameters)

    def __str__(self) -> str:
        from actsearch.codegen.targets.base import listing

        return listing(self)


def to_single(value: float) -> float:
    """The nearest float32."""
    with np.errstate(over="ignore"):
        return float(np.float32(value))


def _lowest(step: Step, bounds: Sequence[float]) -> float:
    """A lower bound of what a step computes, from those of its operands; most are not known."""
    nonnegative = all(bound >= 0 for bound in bounds) or step.operands[0] == step.operands[-1]
    match step.operator:
        case "add":
            return sum(bounds)
        case "mul" | "div":
            return 0.0 if nonnegative else -math.inf  # a product of small numbers may be 0
        case "where":
            return min(bounds[1:])
        case "max":
            return max(bounds)
        case "hypot":
            return max(0.0, *bounds)
        case "sqrt":
            return math.sqrt(max(0.0, bounds[0]))
    return OPERATORS[step.operator].range[0]


def weight(variable: Input | Parameter) -> Parameter:
    """What multiplies the gradient for `variable` in the double backward routine."""
    return Parameter(f"∂∂{variable.name}")


@lru_cache(maxsize=256)
def program(expression: Expression) -> Program:
    """The program of an activation, from its expression in stable form."""
    (value,) = stabilise([expression])
    names = {node.name for node in expression.inputs}
    inputs = (Input("x"), Input("gate")) if "gate" in names else (Input("x"),)
    parameters = expression.parameters
    variables: tuple[Input | Parameter, ...] = (*inputs, *parameters)
    y, *slopes = prepared([value, *_slopes(value, variables)])
    outputs = tuple(variable.name for variable in variables)
    return Program(
        expression,
        value,
        inputs,
        parameters,
        Routine("forward", variables, ("y",), (y,)),
        Routine("backward", (DY, *variables), outputs, tuple(slopes)),
    )


def _slopes(value: Expression, variables: Sequence[Expression]) -> list[Expression]:
    """The gradient for each variable, from that for y, as the chain rule gives it."""
    return [CLEAN.build("mul", slope, DY) for slope in differentiate(value, variables)]


def prepared(expressions: Sequence[Expression]) -> list[Expression]:
    """Results of routines in stable form, guarded, and lowered."""
    return [lower(guarded) for guarded in guard(stabilise(expressions))]


def lower(expression: str | Expression) -> Expression:
    """The expression with constants computed and whole powers as products."""

    def visit(
        node: Expression, arguments: tuple[tuple[Expression, bool], ...]
    ) -> tuple[Expression, bool]:
        if not isinstance(node, Apply):
            return node, isinstance(node, Number | Constant)
        if all(constant for _, constant in arguments):
            return node, True
        operands = [_number(o) if constant else o for o, constant in arguments]
        if node.operator.name == "where" and arguments[0][1]:
            holds = bool(evaluate(arguments[0][0], {}, backend="mpmath")[()])
            return operands[1 if holds else 2], arguments[1 if holds else 2][1]
        if node.operator.name == "pow" and isinstance(operands[1], Number):
            return _power(operands[0], operands[1]), False
        return node.with_arguments(tuple(operands)), False

    lowered, constant = as_expression(expression).fold(visit)
    return _number(lowered) if constant else lowered


@lru_cache(maxsize=4096)
def _number(node: Expression) -> Expression:
    """A constant expression as a float64, correctly rounded, where it has one."""
    if isinstance(node, Number) or (isinstance(node, Apply) and node.operator.name in COMPARISONS):
        return node
    value = float(evaluate(node, {}, backend="mpmath")[()])
    return Number(value) if abs(value) < float("inf") else node


def _power(base: Expression, exponent: Number) -> Expression:
    """A power with a fixed exponent, as products and roots where that is cheaper and exact."""
    if exponent.value < 0:
        return 1 / _power(base, Number(-exponent.value))
    if exponent.value.denominator == 2 and exponent.value <= _WHOLE_POWERS:
        root = Apply("sqrt", base)
        whole = exponent.value - exponent.value % 1
        return _power(base, Number(whole)) * root if whole else root
    if exponent.value.denominator != 1 or exponent.value > _WHOLE_POWERS:
        return Apply("pow", base, exponent)
    if exponent.value == 0:
        return Number(1)
    product, square, rest = None, base, int(exponent.value)
    while rest:
        if rest % 2:
            product = square if product is None else product * square
        square, rest = (square * square, rest // 2) if rest > 1 else (square, 0)
    assert product is not None
    return product


def _postorder(expressions: Sequence[Expression]) -> Iterator[Expression]:
    """Every distinct node of several expressions once, operands first."""
    seen: set[Expression] = set()
    for expression in expressions:
        for node in expression.postorder():
            if node not in seen:
                seen.add(node)
                yield node
