"""The reference tables of the docs, written from the code: `python -m actsearch.reference`."""

from __future__ import annotations

import sys
from pathlib import Path

from actsearch.grammar import OPERATORS, named_activations
from actsearch.grammar.operators import COMPARISONS, DEFINED_FUNCTIONS

_NOTE = "<!-- written by `python -m actsearch.reference`; a test holds it to the code -->"


def operators_page() -> str:
    """docs/operators.md: a row for each operator of the table, and the defined functions."""
    lines = [
        "# Operators",
        _NOTE,
        "",
        "Derivatives are by the arguments `a`, `b`, `c` in turn. Cost is in multiples of one",
        "multiplication. Kinks follow PyTorch: relu'(0) = 0, |x|'(0) = 0, and a tie of max or min",
        "splits evenly.",
        "",
        "| operator | meaning | derivative | defined where | also called | cost |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in OPERATORS.values():
        if row.name in COMPARISONS:
            continue
        arguments = ("a", "b", "c")[: row.arity]
        call = f"{row.name}({', '.join(arguments)})"
        written = f" or `{row.infix.join(arguments)}`" if row.infix and row.arity == 2 else ""
        written = written or (f" or `{row.infix}a`" if row.infix else "")
        lines.append(
            _row(
                f"`{call}`{written}",
                row.description,
                ", ".join(f"`{text}`" for text in row.derivative),
                f"`{row.domain}`" if row.domain else "everywhere",
                ", ".join(f"`{alias}`" for alias in row.aliases),
                f"{row.cost:g}",
            )
        )
    signs = ", ".join(f"`{OPERATORS[name].infix}`" for name in OPERATORS if name in COMPARISONS)
    lines += [
        "",
        f"Comparisons stand as the first argument of `where`: {signs}.",
        "",
        "## Defined functions",
        "",
        "These stand for an expression and are expanded when they are read.",
        "",
        "| function | stands for |",
        "| --- | --- |",
    ]
    for name, (formals, formula) in DEFINED_FUNCTIONS.items():
        lines.append(_row(f"`{name}({', '.join(formals)})`", f"`{formula}`"))
    return "\n".join(lines) + "\n"


def named_page() -> str:
    """docs/named.md: a row for each named activation."""
    lines = [
        "# Named activations",
        _NOTE,
        "",
        "Each is callable in the language, `silu(2*x)`, and a member of the space `named`.",
        "",
        "| name | title | expression |",
        "| --- | --- | --- |",
    ]
    for name, activation in named_activations().items():
        lines.append(_row(f"`{name}`", activation.title, f"`{activation.text}`"))
    return "\n".join(lines) + "\n"


def _row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"


PAGES = {"operators.md": operators_page, "named.md": named_page}


def write_pages(folder: Path) -> None:
    """Write every page into `folder`."""
    for name, page in PAGES.items():
        (folder / name).write_text(page(), "utf8")


if __name__ == "__main__":
    write_pages(Path(sys.argv[1] if len(sys.argv) > 1 else "docs"))
