"""`actsearch show`, `equal` and `export`: one activation, or two."""

from __future__ import annotations

import argparse
from typing import Any

from actsearch.cli.console import columns, emit, note, significant
from actsearch.grammar import Expression, parse, to_latex


def show(arguments: argparse.Namespace) -> int:
    """Everything that is known about one activation."""
    from actsearch.codegen import gradient
    from actsearch.simplification import simplify

    expression = parse(arguments.expression)
    data: dict[str, Any] = {
        "expression": str(expression),
        "simplified": str(simplify(expression)),
        "gradient": {name: str(part) for name, part in gradient(expression).items()},
        "cost": expression.cost,
    }
    rows = [("expression", data["expression"]), ("simplified", data["simplified"])]
    rows += [(f"d/d{name}", text) for name, text in data["gradient"].items()]
    if arguments.latex:
        data["latex"] = {"expression": to_latex(expression)} | {
            f"d/d{name}": to_latex(part) for name, part in gradient(expression).items()
        }
        rows += [(f"LaTeX {what}", text) for what, text in data["latex"].items()]
    rows.append(("cost", f"{expression.cost:g} multiplications"))
    if len(expression.inputs) <= 1:
        analysed, analysis = _analyse(expression)
        data |= analysed
        rows += analysis
    else:
        note("properties and gain are those of functions of one input; this one has two")
    if arguments.plot is not None:
        from actsearch.report import plot_expression

        data["plot"] = str(plot_expression(expression, arguments.plot))
        rows.append(("plot", data["plot"]))
    emit(arguments, data, columns(rows, indent=""))
    return 0


def _analyse(expression: Expression) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """Name, properties, gain: as data and as rows."""
    from actsearch.analysis import known_name, properties
    from actsearch.moments import moments

    name, facts, gaussian = known_name(expression), properties(expression), moments(expression)
    data = {
        "name": None if name is None else name.title,
        "properties": facts.to_dict(),
        "gain": gaussian.gain,
        "gradient_second_moment": gaussian.gradient_second,
    }
    rows = [] if name is None else [("known as", name.title)]
    if facts.parameters:
        at = ", ".join(f"{key} = {value:g}" for key, value in facts.parameters.items())
        rows.append(("at", at))
    rows += [
        ("domain", _union(facts.domain)),
        ("range", str(facts.range)),
        ("minimum", _extremum(facts.minimum)),
        ("maximum", _extremum(facts.maximum)),
        ("limits", f"{_limit(facts.limits[0])} at -∞, {_limit(facts.limits[1])} at ∞"),
        ("parity", facts.parity),
        ("monotone", facts.monotone if facts.monotone != "none" else _trends(facts)),
        ("continuous", "yes" if facts.continuous else "no"),
        ("smooth", "yes" if facts.smooth else "no"),
        ("kinks", _listed(_change(kink, "slope ") for kink in facts.kinks)),
        ("jumps", _listed(_change(jump) for jump in facts.jumps)),
        ("poles", _listed(map(_at, facts.poles))),
        ("zero gradient", _union(facts.zero_gradient)),
        ("Lipschitz", significant(facts.lipschitz)),
    ]
    rows += [(f"in {kind}", _overflow(ends)) for kind, ends in facts.overflow.items()]
    rows += [
        ("gain", f"{significant(gaussian.gain)}  (1/sqrt(E f(z)²), z ~ N(0, 1))"),
        ("E f'(z)²", significant(gaussian.gradient_second)),
    ]
    return data, rows


def _at(value: float) -> str:
    return significant(value)


def _change(point: Any, what: str = "") -> str:
    """Where something changes, and from what to what."""
    return f"{_at(point.x)} ({what}{_at(point.left)} to {_at(point.right)})"


def _listed(items: Any) -> str:
    return ", ".join(items) or "none"


def _union(intervals: Any) -> str:
    return " ∪ ".join(map(str, intervals)) or "none"


def _extremum(point: tuple[float, float] | None) -> str:
    return "none" if point is None else f"{_at(point[0])} at {_at(point[1])}"


def _limit(value: float | None) -> str:
    return "none" if value is None else _at(value)


def _trends(facts: Any) -> str:
    return "no: " + ", ".join(f"{p.trend} on {p.interval}" for p in facts.monotone_pieces)


def _overflow(ends: tuple[float | None, float | None]) -> str:
    found = [f"x {sign} {_at(x)}" for sign, x in zip("≤≥", ends, strict=True) if x is not None]
    return f"overflows at {' and '.join(found)}" if found else "never overflows"


def certificate(arguments: argparse.Namespace) -> int:
    """Measured errors of an activation's code."""
    from actsearch.codegen import certificate as measure

    found = measure(arguments.expression, arguments.target, arguments.precision, arguments.dtype)
    emit(arguments, found.to_dict(), str(found))
    return 0


def equal(arguments: argparse.Namespace) -> int:
    """Whether two activations are the same function; the exit code says it, too."""
    from actsearch.equivalence import equivalent

    verdict = equivalent(
        parse(arguments.a),
        parse(arguments.b),
        level=arguments.level,
        parameters=arguments.parameters,
    )
    emit(arguments, verdict.to_dict(), str(verdict))
    return 0 if verdict.equal else 1


def export(arguments: argparse.Namespace) -> int:
    """Write an activation as a file that runs without ActSearch."""
    from actsearch.codegen import export as export_expression

    path = export_expression(
        arguments.expression,
        target=arguments.target,
        path=arguments.output,
        rank=arguments.rank,
    )
    emit(arguments, {"target": arguments.target, "path": str(path)}, str(path))
    return 0
