"""A naive enumerator of small grammars, to hold the counting, ranking and ordering against."""

from __future__ import annotations

from collections.abc import Iterator

from hypothesis import strategies as st

from actsearch.grammar import SearchSpace

Rules = dict[str, list[list[str]]]
"""Rule -> alternatives; a symbol is the name of a rule, or a string of the language."""

TREES: Rules = {
    "start": [["unit"]],
    "unit": [["sin(", "part", ")"], ["max(", "part", ", ", "part", ")"], ["abs(x)"]],
    "part": [["x"], ["_"], ["unit"]],
}
CHAINS: Rules = {
    "start": [["where(x > ", "bound", ", ", "unit", ", ", "unit", ")"], ["exp(", "start2", ")"]],
    "start2": [["-", "unit"], ["x*", "unit"]],
    "unit": [["cos(", "unit", ")"], ["add(", "unit", ", ", "bound", ")"], ["x"]],
    "bound": [["0"], ["1"]],
}
LEFT_RECURSIVE: Rules = {
    "start": [["unit"]],
    "unit": [["unit", " + ", "term"], ["term"]],
    "term": [["x"], ["2*x"], ["tanh(x)"]],
}
FINITE: Rules = {
    "start": [["add(", "inner", ", ", "inner", ")"], ["inner"]],
    "inner": [["x"], ["sqrt(x)"], ["-x"]],
}


def text_of(rules: Rules) -> str:
    """The grammar in Lark's format."""
    lines = []
    for rule, alternatives in rules.items():
        written = (" ".join(s if s in rules else f'"{s}"' for s in a) for a in alternatives)
        lines.append(f"{rule}: " + " | ".join(written))
    return "\n".join(lines)


def make(rules: Rules, units: int | None = None) -> SearchSpace:
    """The space of the grammar."""
    return SearchSpace(text_of(rules), "test", units)


def sentences(rules: Rules, units: int | None) -> list[str]:
    """Every sentence in the documented order, without blanks."""
    return [s.replace(" ", "") for s in _derive(rules, "start", units or 0)]


def _derive(rules: Rules, rule: str, units: int) -> Iterator[str]:
    left = units - (rule == "unit")
    if left >= 0:
        for alternative in rules[rule]:
            yield from _sequence(rules, alternative, left)


def _sequence(rules: Rules, symbols: list[str], units: int) -> Iterator[str]:
    if not symbols:
        if units == 0:
            yield ""
        return
    first, rest = symbols[0], symbols[1:]
    if first not in rules:
        yield from (first + tail for tail in _sequence(rules, rest, units))
        return
    for size in range(units + 1):
        for head in _derive(rules, first, size):
            yield from (head + tail for tail in _sequence(rules, rest, units - size))


_UNARY = ["sin", "cos", "tanh", "exp", "erf", "atan", "cosh"]
_BINARY = ["max", "min", "hypot", "add", "mul", "sub"]


@st.composite
def grammars(draw: st.DrawFn) -> Rules:
    """Random grammars. Each function name occurs once, so that no sentence is ambiguous."""
    functions = draw(st.permutations([*_UNARY, *_BINARY]))
    names = iter(functions)

    def alternative(parts: list[str]) -> list[str]:
        function = next(names)
        first = draw(st.sampled_from(parts))
        if function in _UNARY:
            return [f"{function}(", first, ")"]
        return [f"{function}(", first, ", ", draw(st.sampled_from(parts)), ")"]

    rules: Rules = {
        "start": [
            ["unit"],
            *([["where(x < 0, ", "unit", ", ", "unit", ")"]] * draw(st.booleans())),
        ],
        "unit": [alternative(["part", "leaf"]) for _ in range(draw(st.integers(1, 3)))],
        "part": [["unit"], *([["leaf"]] * draw(st.booleans()))],
        "leaf": [["x"], *([["_"]] * draw(st.booleans()))],
    }
    rules["unit"].append(["softsign(", "leaf", ")"])  # so that every rule ends
    rules["unit"].append(["erfc(", "part", ")"])  # so that every rule is reached
    return rules
