"""Programs as C: one function for each routine and precision, over arrays of elements.

A routine reads `in[0]`, `in[1]`, … and writes `out[0]`, …, all of n elements, parameters included;
n is a multiple of 16, which spares the compiler what is left over. A shared parameter has one
value: it is read once, and what depends on nothing else is computed once; but not in scaled
functions, whose polynomials are fitted to many values at a time. In float32 it returns whether an
argument was too large for it. What rounding takes from the argument of an exponential or a
trigonometric function is carried along, because they enlarge it: exp(a*b) is computed as
exp(t + low), where t + low is the product without rounding. Pairs carry it through everything: a
step is a number and what that lacks, and results are rounded about once.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence, Set
from functools import cache
from importlib import resources
from typing import Any, ClassVar

from actsearch.codegen.programs import Earlier, Operand, Program, Routine, Step, to_single
from actsearch.codegen.scaling import degree_of_scaling
from actsearch.codegen.targets.base import ATOM, Code, Function, Renderer, variable_names
from actsearch.grammar.expression import Expression
from actsearch.grammar.operators import COMPARISONS, OPERATORS

ELEMENTARY = "\n".join(
    resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
    for name in ("elementary.c", "bessel.c")
)
ROUTINES = ("forward", "backward", "double_backward")
Variant = tuple[str, str]
"""A routine, and what it computes with: "f32", "pairs" of these, or "f64"."""

_DECLARED = re.compile(r"^(?:INLINE|LIBRARY) (?:float|double|int) (\w+)\((.*?)\)", re.MULTILINE)
_DEFINED = re.compile(r"^#define (\w+)", re.MULTILINE)
_LONGEST_TITLE = 2000  # characters of a formula in a comment
_SIGNATURES: Mapping[str, str] = dict(_DECLARED.findall(ELEMENTARY))
_FUSED = frozenset({"tanh_of_softplus", "sigmoid_of_softplus"})
_BOUNDS = {"max": "at_least", "min": "at_most"}  # with a number these are cheaper
_SUMS = frozenset({"add", "sub"})
_ARITHMETIC = frozenset({"add", "sub", "mul", "div", "neg"})
_NUMBER = re.compile(r"\b\d[\w.]*(?:(?<=e)[-+]\d+f?)?")
_OPERATION = re.compile(r"fma32|__builtin_sqrt|[-+*/?&|<>]")
_SLOW = frozenset({"/", "__builtin_sqrt"})
_DIVISION = 8  # operations that one of these takes as long as
_DEFINITION = re.compile(r"const \w+ (\w+) = (.*);")
_LONG = 200  # instructions for an element, from which on loops are not interleaved
_OURS = re.compile(
    r"(?:in|out|t|v)\d+(?:_low|_of|_if|_sum|_less)?"
)  # what a function calls its own variables


def _functions() -> dict[str, Function]:
    """The operators that elementary.c has, in both precisions, and the condition."""
    found: dict[str, Function] = {"where": "({a} ? {b} : {c})"}
    for name, formals in _SIGNATURES.items():
        operator, _, precision = name.rpartition("_")
        if precision == "f32" and operator in OPERATORS:
            count = formals.count("float")
            found[operator] = (
                f"{operator}({', '.join(f'{{{formal}}}' for formal in 'abc'[:count])})"
            )
    return found


class CRenderer(Renderer):
    """Routines as C. Statements are written by `statements`; steps come from the base."""

    name = "cpu"
    functions: ClassVar[Mapping[str, Function]] = _functions()
    real: ClassVar[str]
    precision: ClassVar[str]
    normalised: ClassVar[bool] = False  # whether sums keep less than half a unit in their rests
    passing: ClassVar[Set[str]] = _ARITHMETIC | _BOUNDS.keys() | {"abs", "relu", "where"}
    """Operators that pass on what rounding took from an operand."""

    def literal(self, value: float) -> str:
        raise NotImplementedError

    def call(
        self, operator: str, operands: Sequence[Code], low: str | None, rest: str | None = None
    ) -> str:
        """A function of elementary.c, of an argument that lacks `low`, to leave what it lacks."""
        form = "_pair" if rest else "_wide" if low else ""
        name = f"{operator}{form}_{self.precision}"
        arguments = [operand.text for operand in operands]
        arguments += [low or "-0.0f"] if form else []
        arguments += [f"&{rest}"] if rest else []
        arguments += ["&lost"] if _may_lose(name) else []
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
        if step.operator in _BOUNDS and isinstance(step.operands[0], float):
            return Step(step.operator, step.operands[::-1])
        return step

    def statements(self, routine: Routine, names: Mapping[Expression, str]) -> list[str]:
        """The lines of a loop's body: a variable for each step, then the results."""
        shown: dict[Operand, str] = {node: names[node] for node in routine.arguments}
        lines: list[str] = []
        corrected = self.corrected(routine)
        needed = self.carried(routine, corrected)
        lows: dict[int, str] = {}

        def rest(place: int, function: str, low: str | None) -> str | None:
            """A variable for what a function's result lacks, if something asks for it."""
            if not self.pairs(function) or (place not in needed and low is None):
                return None
            lows[place] = f"t{place + 1}_low"
            lines.append(f"{self.real} {lows[place]};")
            return lows[place]

        def code(operand: Operand) -> Code:
            if isinstance(operand, float):
                return self._number(operand)
            return Code(shown[operand])

        for place, step in enumerate(routine.steps):
            step = self.simplified(step)
            operands = [code(operand) for operand in step.operands]
            first = step.operands[0]
            name = f"t{place + 1}"
            if step.operator in _BOUNDS and isinstance(step.operands[1], float):
                bound = f"{_BOUNDS[step.operator]}_{self.precision}"
                text = f"{bound}({operands[0].text}, {operands[1].text})"
            elif fused := self.fused(step, routine.steps):
                known = self._low_of(fused[1], lows) if self.pairs(fused[0]) else None
                given = [code(operand) for operand in fused[1:]]
                text = self.call(fused[0], given, known, rest(place, fused[0], known or None))
            elif step.operator in self.functions and step.operator != "where":
                known = lows.get(first.step) if isinstance(first, Earlier) else None
                carried = known if self.carries(step.operator) else None
                left = rest(place, step.operator, carried)
                defined = _defined(first, routine.undefined)
                if defined and _may_lose(f"{step.operator}_{self.precision}"):
                    first_of = Code(f"{name}_of")  # a call inside of a condition would be a branch
                    value = self.call(step.operator, [first_of, *operands[1:]], carried, left)
                    lines += [
                        f"const {self.real} {name}_of = {defined} ? {operands[0].text} : 0;",
                        f"const {self.real} {name}_if = {value};",
                    ]
                    text = f"{defined} ? {name}_if : UNDEFINED"
                else:
                    text = self.call(step.operator, operands, carried, left)
            elif self._is_quotient(step):
                above, below = (operand.text for operand in operands)
                parts = [self._low_of(operand, lows) or "-0.0f" for operand in step.operands]
                lines.append(f"{self.real} {name}_low;")
                text = f"quotient({above}, {parts[0]}, {below}, {parts[1]}, &{name}_low)"
                if place in needed:
                    lows[place] = f"{name}_low"
            else:
                text = self.step(step, operands).text
            if place in corrected and not self._is_quotient(step):
                low = self._missing(step, operands, lows)
                text = f"corrected({text}, {low})" if low else text
            kind = "int" if step.operator in COMPARISONS else self.real
            is_sum = step.operator in _SUMS and place in needed - corrected
            if self.normalised and is_sum and self._missing(step, operands, lows):
                low = self._low(step.operator, step.operands, operands, f"{name}_sum", lows)
                lines += [
                    f"const {self.real} {name}_sum = {text};",
                    f"const {self.real} {name}_less = {low};",
                    f"const {self.real} {name} = corrected({name}_sum, {name}_less);",
                    f"const {self.real} {name}_low = {name}_less - ({name} - {name}_sum);",
                ]
                lows[place] = f"{name}_low"
                shown[Earlier(place)] = name
                continue
            lines.append(f"const {kind} {name} = {text};")
            shown[Earlier(place)] = name
            if place in needed - corrected and place not in lows and step.operator in self.passing:
                low = self._low(step.operator, step.operands, operands, name, lows)
                if low:
                    lines.append(f"const {self.real} {name}_low = {low};")
                    lows[place] = f"{name}_low"
        for number, result in enumerate(routine.results):
            lines.append(f"out{number}[i] = {code(result).text};")
            if self.checks(routine) and isinstance(result, Earlier):
                defined = _defined(result, routine.unfounded)
                missing = f"not_finite({code(result).text})"
                lines.append(f"lost |= {f'{defined} ? {missing} : 0' if defined else missing};")
        return lines

    def corrected(self, routine: Routine) -> set[int]:
        """The steps to which is added what rounding took from their operands."""
        return set()

    def _is_quotient(self, step: Step) -> bool:
        """Whether it divides by a pair: one division gives both numbers of the result."""
        return step.operator == "div" and self.normalised

    def carried(self, routine: Routine, corrected: set[int]) -> set[int]:
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

    def _low(
        self,
        operator: str,
        operands: Sequence[Operand],
        codes: Sequence[Code],
        name: str,
        lows: Mapping[int, str],
    ) -> str:
        """What one operation's result lacks, as code; empty where that is nothing."""
        low = [self._low_of(operand, lows) for operand in operands]
        if operator == "neg":
            return f"-{low[0]}" if low[0] else ""
        if operator == "abs":
            return f"{codes[0].within(ATOM)} < 0 ? -{low[0]} : {low[0]}" if low[0] else ""
        if operator == "where":
            branches = [part or "-0.0f" for part in low[1:]]
            return f"{codes[0].within(ATOM)} ? {' : '.join(branches)}" if any(low[1:]) else ""
        if operator == "relu":
            return f"{codes[0].within(ATOM)} <= 0 ? 0.0f : {low[0]}" if low[0] else ""
        a, b = (code.within(ATOM) for code in codes)
        if operator in _BOUNDS:
            sign = ">" if operator == "max" else "<"
            one, two = (part or "-0.0f" for part in low)
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
            parts = [f"({rest}) / {b}"]
        else:
            sign = "-" if operator == "sub" else ""
            other = f"({sign}{b})"
            parts = [f"(({a} - ({name} - ({name} - {a}))) + ({other} - ({name} - {a})))"]
            parts += [low[0]] if low[0] else []
            parts += [f"({sign}{low[1]})"] if low[1] else []
        return " + ".join(parts)

    def _low_of(self, operand: Operand, lows: Mapping[int, str]) -> str:
        if isinstance(operand, Earlier):
            return lows.get(operand.step, "")
        return ""

    def _missing(self, step: Step, codes: Sequence[Code], lows: Mapping[int, str]) -> str:
        """What a sum, a product or a quotient lacks because its operands do."""
        first, second = (self._low_of(operand, lows) for operand in step.operands)
        a, b = (code.within(ATOM) for code in codes)
        match step.operator:
            case "mul":
                parts = [f"{a} * {second}" if second else "", f"{b} * {first}" if first else ""]
            case "div":
                rest = f"{first or '-0.0f'} - {a} / {b} * {second}" if second else first
                parts = [f"({rest}) / {b}" if rest else ""]
            case "sub":
                parts = [first, f"(-{second})" if second else ""]
            case _:
                parts = [first, second]
        return " + ".join(part for part in parts if part)


class Single(CRenderer):
    """In float32."""

    name = "cpu"
    real = "float"
    precision = "f32"

    def literal(self, value: float) -> str:
        return _literal(to_single(value), "f")

    def checks(self, routine: Routine) -> bool:
        return not routine.is_total  # a division by 0

    def carries(self, operator: str) -> bool:
        return f"{operator}_wide_f32" in _SIGNATURES

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
            if step.operator in _SUMS and place not in inner
        }

    def simplified(self, step: Step) -> Step:
        step = super().simplified(step)
        divisor = step.operands[-1]
        if step.operator == "div" and isinstance(divisor, float) and divisor:
            is_exact = abs(math.frexp(divisor)[0]) == 0.5
            if is_exact or divisor != to_single(divisor):  # else neither would be exact
                return Step("mul", (step.operands[0], 1 / divisor))
        return step

    def _low_of(self, operand: Operand, lows: Mapping[int, str]) -> str:
        if isinstance(operand, float):
            rest = operand - to_single(operand)
            return (
                self._number(to_single(rest)).within(ATOM) if math.isfinite(rest) and rest else ""
            )
        return super()._low_of(operand, lows)


class Paired(Single):
    """In float32, each step with what it lacks."""

    normalised = True

    def checks(self, routine: Routine) -> bool:
        return True  # what an infinity lacks is NaN

    def carries(self, operator: str) -> bool:
        return super().carries(operator) or self.pairs(operator)

    def pairs(self, operator: str) -> bool:
        return f"{operator}_pair_f32" in _SIGNATURES

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

    name = "cpu"
    real = "double"
    precision = "f64"

    def literal(self, value: float) -> str:
        return _literal(value, "")


RENDERERS = {"f32": Single(), "pairs": Paired(), "f64": Double()}


def _may_lose(function: str) -> bool:
    """Whether a function of elementary.c asks for more digits for some arguments, as for NaN."""
    return "int *lost" in _SIGNATURES[function]


def _defined(operand: Operand, undefined: Sequence[Set[int]]) -> str:
    """Code for: none of the steps that make it undefined is NaN; empty if there are none."""
    if not isinstance(operand, Earlier):
        return ""
    return " & ".join(f"(t{k + 1} == t{k + 1})" for k in sorted(undefined[operand.step]))


def _earlier(operand: Operand, steps: Sequence[Step]) -> Step | None:
    return steps[operand.step] if isinstance(operand, Earlier) else None


def _literal(value: float, suffix: str) -> str:
    if math.isinf(value):
        return "INFINITE" if value > 0 else "-INFINITE"
    return "UNDEFINED" if math.isnan(value) else f"{value!r}{suffix}"


@cache
def reserved_names() -> frozenset[str]:
    """Names that a variable cannot have in generated C."""
    keywords = (
        "auto break case char const continue default do double else enum extern float for goto if "
        "inline int long register restrict return short signed sizeof static struct switch typedef "
        "union unsigned void volatile while asm typeof n i in out lost any main"
    )
    words = re.findall(r"[A-Za-z_]\w*", ELEMENTARY)
    return frozenset([*keywords.split(), *words])


def source(program: Program) -> str:
    """A whole file: the three routines, and what they use of elementary.c."""
    variants = [(routine, type_) for routine in ROUTINES for type_ in ("f32", "f64")]
    text = functions(program, variants, "activation")
    kept = elementary(text)
    variables = ", ".join(node.name for node in program.variables)
    title = (
        "/* An activation function in C. Generated by ActSearch.\n *\n"
        f" *     y = {_commented(str(program.expression))}\n *\n"
        " * Each routine reads arrays in[0], in[1], … of n elements, a multiple of 16, and writes\n"
        f" * out[0], …: {variables}, after dy and weights.\n"
        " * Of a shared parameter the first element counts for all.\n"
        " * In float32 a result other than 0 asks for the float64 routine. Compile with\n"
        " * -O2 -march=native -fno-math-errno -fno-trapping-math -fno-builtin -ffp-contract=off. */"
    )
    return "\n\n".join([title, kept, text.strip()]) + "\n"


@cache
def _pieces() -> list[tuple[str, frozenset[str], frozenset[str]]]:
    """The paragraphs of `ELEMENTARY`, what each defines, and the words in it."""
    return [
        (piece, frozenset(_DEFINED.findall(piece)).union(_names(piece)), _words(piece))
        for piece in ELEMENTARY.rstrip().split("\n\n")[1:]
    ]


def _names(text: str) -> list[str]:
    return [name for name, _ in _DECLARED.findall(text)]


def _words(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"\w+", text))


def elementary(text: str) -> str:
    """What functions in C use of `ELEMENTARY`, so that a compiler need not read the rest."""
    needed = set(_words(text))
    kept: list[str] = []
    for piece, defined, words in reversed(_pieces()):  # a function calls those before it
        is_comment = piece.startswith("/*") and piece.endswith("*/")
        if is_comment and kept and not kept[-1].startswith("/*"):
            kept.append(piece)
        elif not is_comment and defined & needed:
            kept.append(piece)
            needed |= words
    return "\n\n".join(reversed(kept))


def _commented(text: str) -> str:
    """Text inside of a C comment."""
    return text.replace("*/", "* /")[:_LONGEST_TITLE]


def functions(program: Program, variants: Iterable[Variant], prefix: str) -> str:
    """Routines as C functions `{prefix}_{routine}_{f32|pairs|f64}`; they go with `ELEMENTARY`."""
    names = {
        node: name if name.isascii() and not _OURS.fullmatch(name) else f"v{k}"
        for k, (node, name) in enumerate(variable_names(program, reserved_names()).items())
    }
    shared = {names[p] for p in program.parameters if p.scope == "shared"}
    if degree_of_scaling(program.expression) is not None:
        shared = set()
    found = []
    for routine, type_ in variants:
        name = f"{prefix}_{routine}_{type_}"
        found.append(_function(getattr(program, routine), names, shared, RENDERERS[type_], name))
    return "".join(found)


def _function(
    routine: Routine,
    names: Mapping[Expression, str],
    shared: Set[str],
    renderer: CRenderer,
    name: str,
) -> str:
    real = renderer.real
    once, each = _apart(renderer.statements(routine, names), shared, set(names.values()))
    used = _words(" ".join([*once, *each]))
    read = [(k, names[node]) for k, node in enumerate(routine.arguments) if names[node] in used]
    is_narrow = "lost" in used and arithmetic(" ".join(each)) <= _LONG
    lines = [f"const {real} *restrict in{k} = in[{k}];" for k, _ in read]
    lines += [f"{real} *restrict out{k} = out[{k}];" for k in range(len(routine.results))]
    lines += [f"const {real} {variable} = in{k}[0];" for k, variable in read if variable in shared]
    lines += ["int lost = 0;", *once]
    lines += ["NARROW any = lost != 0;"] if is_narrow else []
    lines += ["n &= -16L;"]
    body = ["int lost = 0;"] if is_narrow else []
    own = [(k, variable) for k, variable in read if variable not in shared]
    body += [f"const {real} {variable} = in{k}[i];" for k, variable in own]
    body += [*each, *(["any |= lost != 0;"] if is_narrow else [])]
    head = f"\nint {name}(long n, const {real} *const *in, {real} *const *out) {{"
    loop = ["#pragma GCC ivdep", "    for (long i = 0; i < n; ++i) {"]
    end = ["    }", f"    return {'any' if is_narrow else 'lost'};", "}", ""]
    before, inside = (f"    {line}" for line in lines), (f"        {line}" for line in body)
    return "\n".join([head, *before, *loop, *inside, *end])


def _apart(
    statements: Iterable[str], shared: Set[str], variables: Set[str]
) -> tuple[list[str], list[str]]:
    """The statements that need nothing but shared variables, and the others."""
    known: set[str] = set(shared)
    once: list[str] = []
    each: list[str] = []
    for line in statements:
        found = _DEFINITION.fullmatch(line)
        words = _words(found[2]) if found else frozenset()
        needed = {word for word in words if word in variables or _OURS.fullmatch(word)}
        if found and needed <= known:
            known.add(found[1])
            once.append(line)
        else:
            each.append(line)
    return once, each


def arithmetic(text: str) -> int:
    """About how many instructions float32 code takes for an element, with those of its calls."""
    text = _NUMBER.sub("", text)
    inside = sum(_arithmetic_of(name) for name in re.findall(r"\w+", text) if name in _bodies())
    return inside + sum(_DIVISION if op in _SLOW else 1 for op in _OPERATION.findall(text))


@cache
def _arithmetic_of(name: str) -> int:
    return arithmetic(_bodies()[name])


@cache
def _bodies() -> Mapping[str, str]:
    """The functions of `ELEMENTARY` that are ours, by name, as they are without `FAST`."""
    text = re.sub(r"/\*.*?\*/", "", ELEMENTARY, flags=re.DOTALL)
    text = re.sub(r"#ifdef FAST.*?#else\n(.*?)#endif", r"\1", text, flags=re.DOTALL)
    functions = r"^INLINE \w+ (\w+)\([^{]*\) \{(.*?)(?:\n\}| \}$)"
    return dict(re.findall(functions, text, flags=re.DOTALL | re.MULTILINE))
