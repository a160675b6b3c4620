"""The statements of a routine's loop in C: a variable for each step, then the results.

Step k is `t{k}`. What rounding took from it is `t{k}_low`, where something needs that.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Set

from actsearch.codegen.programs import Earlier, Operand, Routine, Step
from actsearch.codegen.targets.base import ATOM, Code
from actsearch.codegen.targets.cpu.arithmetics import BOUNDS, SUMS, CRenderer
from actsearch.codegen.targets.cpu.elementary import may_lose
from actsearch.grammar.expression import Expression
from actsearch.grammar.operators import COMPARISONS

_NOTHING = "-0.0f"  # which a zero that is added to it stays


def statements(renderer: CRenderer, routine: Routine, names: Mapping[Expression, str]) -> list[str]:
    """The lines of a loop's body.

    Args:
        renderer: what it computes with.
        routine: what it computes.
        names: of the arguments.
    """
    return _Body(renderer, routine, names).lines


class _Body:
    def __init__(
        self, renderer: CRenderer, routine: Routine, names: Mapping[Expression, str]
    ) -> None:
        self.lines: list[str] = []
        self.renderer, self.routine = renderer, routine
        self.shown: dict[Operand, str] = {node: names[node] for node in routine.arguments}
        self.lows: dict[int, str] = {}  # what steps lack, as far as it is known
        self.corrected = renderer.corrected(routine)
        self.carried = renderer.carried(routine, self.corrected)
        for place, step in enumerate(routine.steps):
            self._add_step(place, renderer.simplified(step))
        for number, result in enumerate(routine.results):
            self._add_result(number, result)

    def _define(self, kind: str, name: str, value: str) -> None:
        self.lines.append(f"const {kind} {name} = {value};")

    def _declared(self, name: str) -> str:
        self.lines.append(f"{self.renderer.real} {name};")
        return name

    def _code(self, operand: Operand) -> Code:
        if isinstance(operand, float):
            return self.renderer.number(operand)
        return Code(self.shown[operand])

    def _add_step(self, place: int, step: Step) -> None:
        renderer, real, name = self.renderer, self.renderer.real, f"t{place + 1}"
        operands = [self._code(operand) for operand in step.operands]
        value = self._value(place, name, step, operands)
        if place in self.corrected and not renderer.is_quotient(step):
            missing = self._missing(step, operands)
            value = f"corrected({value}, {missing})" if missing else value
        is_carried = place in self.carried - self.corrected
        is_sum = renderer.normalised and step.operator in SUMS
        if is_carried and is_sum and self._missing(step, operands):
            self._define(real, f"{name}_sum", value)
            self._define(real, f"{name}_less", self._low(step, operands, f"{name}_sum"))
            self._define(real, name, f"corrected({name}_sum, {name}_less)")
            self._define(real, f"{name}_low", f"{name}_less - ({name} - {name}_sum)")
            self.lows[place] = f"{name}_low"
        else:
            self._define("int" if step.operator in COMPARISONS else real, name, value)
            if is_carried and place not in self.lows and step.operator in renderer.passing:
                low = self._low(step, operands, name)
                if low:
                    self._define(real, f"{name}_low", low)
                    self.lows[place] = f"{name}_low"
        self.shown[Earlier(place)] = name

    def _value(self, place: int, name: str, step: Step, operands: Sequence[Code]) -> str:
        """A step's own operation; what it needs is defined before."""
        renderer = self.renderer
        if step.operator in BOUNDS and isinstance(step.operands[1], float):
            function = f"{BOUNDS[step.operator]}_{renderer.precision}"
            return f"{function}({operands[0].text}, {operands[1].text})"
        if fused := renderer.fused(step, self.routine.steps):
            function, *arguments = fused
            low = self._low_of(arguments[0]) if renderer.pairs(function) else ""
            given = [self._code(argument) for argument in arguments]
            return renderer.call(function, given, low, self._rest(place, name, function, low))
        if step.operator in renderer.functions and step.operator != "where":
            return self._function(place, name, step, operands)
        if renderer.is_quotient(step):
            above, below = (operand.text for operand in operands)
            lacks = [self._low_of(operand) or _NOTHING for operand in step.operands]
            rest = self._declared(f"{name}_low")
            if place in self.carried:
                self.lows[place] = rest
            return f"divided({above}, {lacks[0]}, {below}, {lacks[1]}, &{rest}, &lost)"
        return renderer.step(step, operands).text

    def _function(self, place: int, name: str, step: Step, operands: Sequence[Code]) -> str:
        renderer, operator, argument = self.renderer, step.operator, step.operands[0]
        is_earlier = isinstance(argument, Earlier)
        low = self._low_of(argument) if is_earlier and renderer.carries(operator) else ""
        rest = self._rest(place, name, operator, low)
        defined = _defined(argument, self.routine.undefined)
        if not (defined and may_lose(f"{operator}_{renderer.precision}")):
            return renderer.call(operator, operands, low, rest)
        inside = [Code(f"{name}_of"), *operands[1:]]  # a call in a condition would be a branch
        self._define(renderer.real, f"{name}_of", f"{defined} ? {operands[0].text} : 0")
        value = renderer.call(operator, inside, low, rest)
        self._define(renderer.real, f"{name}_if", value)
        return f"{defined} ? {name}_if : UNDEFINED"

    def _rest(self, place: int, name: str, function: str, low: str) -> str | None:
        """A variable for what a function's result lacks, if something asks for it."""
        if not self.renderer.pairs(function) or (place not in self.carried and not low):
            return None
        self.lows[place] = self._declared(f"{name}_low")
        return self.lows[place]

    def _add_result(self, number: int, result: Operand) -> None:
        code = self._code(result).text
        self.lines.append(f"out{number}[i] = {code};")
        if self.renderer.checks(self.routine) and isinstance(result, Earlier):
            defined = _defined(result, self.routine.unfounded)
            missing = f"not_finite({code})"
            self.lines.append(f"lost |= {f'{defined} ? {missing} : 0' if defined else missing};")

    def _low_of(self, operand: Operand) -> str:
        """What an operand lacks; empty where that is nothing."""
        if isinstance(operand, float):
            return self.renderer.rest_of(operand)
        return self.lows.get(operand.step, "") if isinstance(operand, Earlier) else ""

    def _missing(self, step: Step, codes: Sequence[Code]) -> str:
        """What a sum or a product lacks because its operands do."""
        first, second = (self._low_of(operand) for operand in step.operands)
        a, b = (code.within(ATOM) for code in codes)
        match step.operator:
            case "mul":
                parts = [f"{a} * {second}" if second else "", f"{b} * {first}" if first else ""]
            case "sub":
                parts = [first, f"(-{second})" if second else ""]
            case _:
                parts = [first, second]
        return " + ".join(part for part in parts if part)

    def _low(self, step: Step, codes: Sequence[Code], name: str) -> str:
        """What one operation's result lacks; empty where that is nothing."""
        operator, operands = step.operator, step.operands
        low = [self._low_of(operand) for operand in operands]
        if operator == "neg":
            return f"-{low[0]}" if low[0] else ""
        if operator == "abs":
            return f"{codes[0].within(ATOM)} < 0 ? -{low[0]} : {low[0]}" if low[0] else ""
        if operator == "where":
            branches = [part or _NOTHING for part in low[1:]]
            return f"{codes[0].within(ATOM)} ? {' : '.join(branches)}" if any(low[1:]) else ""
        if operator == "relu":
            return f"{codes[0].within(ATOM)} <= 0 ? 0.0f : {low[0]}" if low[0] else ""
        a, b = (code.within(ATOM) for code in codes)
        if operator in BOUNDS:
            sign = ">" if operator == "max" else "<"
            one, two = (part or _NOTHING for part in low)
            if not any(low):
                return ""
            return f"({a} {sign} {b}) | ({a} == {b} & {one} {sign} {two}) ? {one} : {two}"
        if operator == "mul":
            parts = [f"fma32({a}, {b}, -{name})"]
            if any(isinstance(o, float) and math.frexp(o)[0] in (0.5, -0.5) for o in operands):
                parts = []  # the product with a power of 2 is exact
            parts += [f"{a} * {low[1]}"] if low[1] else []
            parts += [f"{b} * {low[0]}"] if low[0] else []
        elif operator == "div":
            rest = f"fma32(-{name}, {b}, {a})"
            rest += f" + {low[0]}" if low[0] else ""
            rest += f" - {name} * {low[1]}" if low[1] else ""
            parts = [f"less_by({rest}, {b})"]
        else:
            sign = "-" if operator == "sub" else ""
            other = f"({sign}{b})"
            parts = [f"(({a} - ({name} - ({name} - {a}))) + ({other} - ({name} - {a})))"]
            parts += [low[0]] if low[0] else []
            parts += [f"({sign}{low[1]})"] if low[1] else []
        return " + ".join(parts)


def _defined(operand: Operand, undefined: Sequence[Set[int]]) -> str:
    """Code for: none of the steps that make it undefined is NaN; empty if there are none."""
    if not isinstance(operand, Earlier):
        return ""
    return " & ".join(f"(t{k + 1} == t{k + 1})" for k in sorted(undefined[operand.step]))
