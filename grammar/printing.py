"""From an expression back to text: `parse(str(e)) is e`; and to LaTeX."""

from __future__ import annotations

from fractions import Fraction

from actsearch.grammar.expression import (
    Apply,
    Constant,
    Expression,
    Input,
    Number,
    Parameter,
)
from actsearch.grammar.operators import COMPARISONS

_SUM, _PRODUCT, _UNARY, _POWER, _ATOM = range(1, 6)
_PRECEDENCE = {"add": _SUM, "sub": _SUM, "mul": _PRODUCT, "div": _PRODUCT, "neg": _UNARY}
_PRECEDENCE |= {"pow": _POWER} | dict.fromkeys(COMPARISONS, 0)
# What an operand must at least bind like to stand without parentheses: (left, right).
_OPERANDS = {
    "add": (_SUM, _PRODUCT),
    "sub": (_SUM, _PRODUCT),
    "mul": (_PRODUCT, _UNARY),
    "div": (_PRODUCT, _UNARY),
    "neg": (_UNARY,),
    "pow": (_ATOM, _UNARY),
} | dict.fromkeys(COMPARISONS, (_SUM, _SUM))
_SPACED = COMPARISONS | {"add", "sub"}


def to_text(expression: Expression) -> str:
    """The expression in the language, its declarations after a semicolon where they are needed."""
    body = "".join(_pieces(expression))
    declarations = [text for p in expression.parameters if (text := declaration(p))]
    return f"{body}; {', '.join(declarations)}" if declarations else body


def _pieces(expression: Expression) -> list[str]:
    """The body as a list of tokens; an explicit stack of nodes still to be written and text."""
    pieces: list[str] = []
    stack: list[Expression | str] = [expression]
    while stack:
        item = stack.pop()
        if isinstance(item, str):
            pieces.append(item)
        elif not isinstance(item, Apply):
            pieces.append(_leaf(item))
        else:
            stack.extend(reversed(_parts(item)))
    return pieces


def _parts(node: Apply) -> list[Expression | str]:
    """A node as text and operands, in writing order."""
    name, arguments = node.operator.name, node.arguments
    if name not in _OPERANDS:
        parts: list[Expression | str] = [f"{name}("]
        for argument in arguments:
            parts += [argument, ", "]
        parts[-1] = ")"
        return parts
    operands: list[list[Expression | str]] = [
        [argument] if _precedence(argument) >= least else ["(", argument, ")"]
        for argument, least in zip(arguments, _OPERANDS[name], strict=True)
    ]
    symbol = node.operator.infix
    if len(operands) == 1:
        return [symbol, *operands[0]]
    if name in _SPACED:
        symbol = f" {symbol} "
    return [*operands[0], symbol, *operands[1]]


def _precedence(node: Expression) -> int:
    if isinstance(node, Apply):
        return _PRECEDENCE.get(node.operator.name, _ATOM)
    if isinstance(node, Number) and node.value < 0:
        return _UNARY
    return _ATOM


def _leaf(node: Expression) -> str:
    if isinstance(node, Number):
        return decimal(node.value)
    assert isinstance(node, Input | Constant | Parameter)
    return node.name


def decimal(value: Fraction) -> str:
    """The exact decimal of a fraction whose denominator divides a power of ten."""
    power = 0
    while (value * 10**power).denominator != 1:
        power += 1
    digits = str(abs(value.numerator * 10**power // value.denominator))
    sign = "-" if value < 0 else ""
    kept = digits.rstrip("0") or "0"
    exponent = len(digits) - power - 1  # of the first digit
    if -5 <= exponent < 16:
        if power == 0:
            return sign + digits
        digits = digits.rjust(power + 1, "0")
        return f"{sign}{digits[:-power]}.{digits[-power:]}"
    mantissa = kept[0] + (f".{kept[1:]}" if len(kept) > 1 else "")
    return f"{sign}{mantissa}e{exponent}"


def declaration(parameter: Parameter) -> str:
    """`beta = 0.5 per channel lr 0.01`, or an empty string where everything is the default."""
    if parameter is Parameter(parameter.name):
        return ""
    text = f"{parameter.name} = {parameter.initial!r}"
    if parameter.scope == "per channel":
        text += " per channel"
        if parameter.dimension != 1:
            text += f" dim {parameter.dimension}"
    if parameter.learning_rate != 1.0:
        text += f" lr {parameter.learning_rate!r}"
    return text


_GREEK = frozenset(
    [
        "alpha",
        "beta",
        "gamma",
        "delta",
        "epsilon",
        "zeta",
        "eta",
        "theta",
        "iota",
        "kappa",
        "lambda",
        "mu",
        "nu",
        "xi",
        "rho",
        "sigma",
        "tau",
        "upsilon",
        "phi",
        "chi",
        "psi",
        "omega",
    ]
)


def to_latex(expression: Expression) -> str:
    """The expression as LaTeX, in the form in which it is written (nothing is simplified)."""

    def visit(node: Expression, arguments: tuple[str, ...]) -> str:
        if isinstance(node, Apply):
            wrapped = [
                text if _fits(node, place, child) else rf"\left({text}\right)"
                for place, (text, child) in enumerate(zip(arguments, node.arguments, strict=True))
            ]
            return node.operator.latex.format(**dict(zip("abc", wrapped, strict=False)))
        if isinstance(node, Parameter):
            return _latex_name(node.name)
        if isinstance(node, Constant):
            return r"\pi" if node.name == "pi" else node.name
        return (
            _leaf(node).replace("e", r" \cdot 10^{") + "}" * ("e" in _leaf(node))
            if isinstance(node, Number)
            else _leaf(node)
        )

    return expression.fold(visit)


def _fits(node: Apply, place: int, child: Expression) -> bool:
    """Whether an operand needs no parentheses; a fraction bar and a function bring their own."""
    name = node.operator.name
    if name not in _OPERANDS or name == "div" or (name == "pow" and place == 1):
        return True
    return _precedence(child) >= _OPERANDS[name][place]


def _latex_name(name: str) -> str:
    stem, _, index = name.partition("_")
    if not stem:
        return rf"\theta_{{{index}}}"
    text = f"\\{stem}" if stem in _GREEK else (stem if len(stem) == 1 else rf"\mathrm{{{stem}}}")
    return rf"{text}_{{{index}}}" if index else text
