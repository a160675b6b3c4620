"""What every target's renderer shares: names, temporaries, precedence.

A target overrides `functions`, one line for each operator that is not written infix, and whatever
else differs. A renderer that lacks a line for an operator of the table fails when it is defined,
by the operator's name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from actsearch.codegen.programs import DY, Earlier, Operand, Program, Routine, Step, weight
from actsearch.grammar.expression import INPUTS, Expression, Input
from actsearch.grammar.operators import COMPARISONS, OPERATORS

COMPARE, SUM, PRODUCT, UNARY, ATOM = range(5)
_INFIX: Mapping[str, tuple[int, int, int]] = {
    "add": (SUM, SUM, PRODUCT),
    "sub": (SUM, SUM, PRODUCT),
    "mul": (PRODUCT, PRODUCT, UNARY),
    "div": (PRODUCT, PRODUCT, UNARY),
} | dict.fromkeys(COMPARISONS, (COMPARE, SUM, SUM))
"""Precedence of an infix operator and what its two operands must at least bind like."""

_INPUTS = tuple(Input(name) for name in INPUTS)
_ELEMENTWISE = frozenset([*_INPUTS, DY, *(weight(variable) for variable in _INPUTS)])
"""The variables that have a value for each element; parameters have one for all or a channel."""

_INLINE_LENGTH = 56  # a longer piece of code gets a line and a name of its own
_INLINE_DEPTH = 4


@dataclass(frozen=True)
class Code:
    """A piece of target code.

    Attributes:
        text: the code.
        precedence: how strongly its outermost operator binds.
        depth: how deeply it is nested.
        number: its value, where it is a literal.
        elementwise: whether it has one value for each element, not one for all or for a channel.
    """

    text: str
    precedence: int = ATOM
    depth: int = 0
    number: float | None = None
    elementwise: bool = False

    def within(self, precedence: int) -> str:
        """The text, in parentheses where it binds less strongly than its place asks for."""
        return self.text if self.precedence >= precedence else f"({self.text})"


Function = str | Callable[..., str]
"""`"sqrt({a})"`, or a callable from the operands' `Code` to a text."""


class Renderer:
    """From routines to a target's code."""

    name: ClassVar[str] = "base"
    functions: ClassVar[Mapping[str, Function]] = {}
    assignment: ClassVar[str] = "{name} = {value}"

    def __init_subclass__(cls) -> None:
        missing = set(OPERATORS) - set(_INFIX) - {"neg"} - set(cls.functions)
        if missing:
            raise NotImplementedError(
                f"the target {cls.name!r} has no code for {', '.join(sorted(missing))}"
            )

    def literal(self, value: float) -> str:
        """A number as code."""
        return repr(value)

    def body(
        self, routine: Routine, names: Mapping[Expression, str]
    ) -> tuple[list[str], list[Code]]:
        """The lines that compute a routine's temporaries, and the code of its results."""
        uses, last = _uses(routine), _only_results(routine)
        taken = set(names.values())
        lines: list[str] = []
        done: list[Code] = []

        def code(operand: Operand) -> Code:
            if isinstance(operand, float):
                return self.number(operand)
            if isinstance(operand, Earlier):
                return done[operand.step]
            return Code(names[operand], elementwise=operand in _ELEMENTWISE)

        for place, step in enumerate(routine.steps):
            rendered = self.step(step, [code(operand) for operand in step.operands])
            if Earlier(place) not in last and not self._inlined(rendered, uses[place]):
                name = unused(f"t{len(lines) + 1}", taken)
                lines.append(self.assignment.format(name=name, value=rendered.text))
                rendered = Code(name, elementwise=rendered.elementwise)
            done.append(rendered)
        return lines, [code(result) for result in routine.results]

    def step(self, step: Step, operands: Sequence[Code]) -> Code:
        """One operation as code."""
        depth = 1 + max(operand.depth for operand in operands)
        elementwise = any(operand.elementwise for operand in operands)
        operator = OPERATORS[step.operator]
        if step.operator in _INFIX:
            precedence, left, right = _INFIX[step.operator]
            first, second = operands[0].within(left), operands[1].within(right)
            text = f"{first} {operator.infix} {second}"
            return Code(text, precedence, depth, elementwise=elementwise)
        if step.operator == "neg":
            return Code(f"-{operands[0].within(UNARY)}", UNARY, depth, elementwise=elementwise)
        function = self.functions[step.operator]
        if callable(function):
            text = function(self, *operands)
        else:
            text = function.format(**dict(zip("abc", (o.text for o in operands), strict=False)))
        return Code(text, ATOM, depth, elementwise=elementwise)

    def number(self, value: float) -> Code:
        """A constant as an operand."""
        return Code(self.literal(value), UNARY if value < 0 else ATOM, 0, value)

    def _inlined(self, code: Code, uses: int) -> bool:
        return uses < 2 and len(code.text) <= _INLINE_LENGTH and code.depth <= _INLINE_DEPTH


def _uses(routine: Routine) -> list[int]:
    """How often each step is used."""
    uses = [0] * len(routine.steps)
    operands = [operand for step in routine.steps for operand in step.operands]
    for operand in [*operands, *routine.results]:
        if isinstance(operand, Earlier):
            uses[operand.step] += 1
    return uses


def _only_results(routine: Routine) -> set[Operand]:
    """The steps that are one result and nothing else: they need no name of their own."""
    inner = {operand for step in routine.steps for operand in step.operands}
    return {r for r in routine.results if r not in inner and routine.results.count(r) == 1}


def unused(name: str, taken: set[str]) -> str:
    """`name`, or `name_`, `name__`, … where that is taken already; it is taken afterwards."""
    while name in taken:
        name += "_"
    taken.add(name)
    return name


def variable_names(program: Program, reserved: Iterable[str] = ()) -> dict[Expression, str]:
    """A name in the target language for each variable of a program's routines.

    Inputs keep their names; a parameter's name gets underscores where it is reserved; the gradient
    for y is `dy`, the weights of the double backward routine are `wx`, `wgate`, `wbeta`, ….
    """
    taken = set(reserved) | {"x", "gate"}
    names: dict[Expression, str] = {node: node.name for node in program.inputs}
    for parameter in program.parameters:
        names[parameter] = unused(parameter.name, taken)
    names[DY] = unused("dy", taken)
    for variable in program.variables:
        names[weight(variable)] = unused(f"w{names[variable]}", taken)
    return names


class Listing(Renderer):
    """The language itself, to look at a program."""

    name = "listing"
    functions: ClassVar[Mapping[str, Function]] = {
        name: f"{name}({', '.join(f'{{{formal}}}' for formal in 'abc'[: row.arity])})"
        for name, row in OPERATORS.items()
    }


def listing(program: Program) -> str:
    """A program for people: one line a step."""
    names = variable_names(program)
    shown = {node.name: names[node] for node in program.variables}
    lines = [f"# {program.expression}"]
    for routine in (program.forward, program.backward, program.double_backward):
        body, results = Listing().body(routine, names)
        lines.append(f"{routine.name}({', '.join(names[a] for a in routine.arguments)}):")
        lines += [f"    {line}" for line in body]
        for output, result in zip(routine.outputs, results, strict=True):
            label = output if routine.name == "forward" else f"d{shown.get(output, names[DY])}"
            lines.append(f"    {label} = {result.text}")
    return "\n".join(lines)
