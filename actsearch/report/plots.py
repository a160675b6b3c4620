"""f and its derivatives, drawn: with jumps left open, poles cut off and gaps left blank."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from actsearch.grammar import Apply, Expression, Number, as_expression, named_activations
from actsearch.grammar.errors import did_you_mean
from actsearch.report.curves import SPAN, Curve, sample
from actsearch.report.figure import (
    PlotError,
    check_format,
    drawing,
    inline_svg,
    new_figure,
    save,
    style_axes,
)
from actsearch.report.palette import CANDIDATES, DASHES, LIGHT, PLACEHOLDERS, LineStyle

if TYPE_CHECKING:
    from matplotlib.axes import Axes

GATES = (-2.0, 0.0, 2.0)
"""Values of the second input at which a gated activation is drawn unless told otherwise."""

_NAMES = ("f", "f′", "f″")
_FADES = (0.4, 0.7, 1.0)
_TITLE = 64  # characters of an expression that fit above a plot
_MOST_VALUES = len(CANDIDATES)

Values = Mapping[str, float | Sequence[float]]


def plot_expression(
    expression: str | Expression,
    path: str | PathLike[str],
    parameters: Values | None = None,
    derivatives: int = 1,
    span: tuple[float, float] = SPAN,
) -> Path:
    """Draw an activation and its derivatives for x into a file.

    Args:
        expression: an expression, or its text.
        path: the file; its suffix, .png, .svg or .pdf, is its format.
        parameters: values of trainable parameters and of `gate`, by name; the others have their
            initial value. One name may have several values: a curve is drawn for each.
        derivatives: how many: 0, 1 (f′) or 2 (f″ too).
        span: the interval of x.

    Returns:
        The path.

    Raises:
        PlotError: another suffix, a name that does not occur in the expression, values that cannot
            be drawn, or matplotlib is missing (`pip install 'actsearch[plot]'`).
        ExpressionError: the text is not an expression.
    """
    target = Path(path)
    check_format(target)
    if derivatives not in (0, 1, 2):
        raise PlotError(f"0, 1 or 2 derivatives can be drawn, not {derivatives}")
    if not (np.isfinite(span).all() and span[0] < span[1]):
        raise PlotError(f"an interval of x goes from a smaller to a larger number, not {span}")
    expression = as_expression(expression)
    family = _family(expression, parameters or {})
    functions = _functions(expression, derivatives)
    columns = [
        [sample(f, values, span, within=expression) for values, _ in family] for f in functions
    ]
    lines = [LineStyle(CANDIDATES[i], DASHES[i]) for i in range(len(family))]
    with drawing():
        figure = new_figure(4.2 * len(functions), 3.6, LIGHT)
        axes = figure.subplots(1, len(functions), squeeze=False)[0]
        for panel, name, curves in zip(axes, _NAMES, columns, strict=False):
            _draw(panel, curves, lines, span, LIGHT)
            panel.set_title(f"{name}(x)", color=LIGHT["muted"], loc="left", parse_math=False)
            panel.set_xlabel("x")
        if any(label for _, label in family):
            for (_, label), line in zip(family, lines, strict=True):
                axes[0].plot(
                    [], [], label=label, color=LIGHT[line.colour], linestyle=line.matplotlib_dash
                )
            axes[0].legend(frameon=False, labelcolor=LIGHT["ink"])
        figure.suptitle(_title(expression), color=LIGHT["ink"], fontsize=11, parse_math=False)
        return save(figure, target)


def inline_plot(expression: str | Expression, line: LineStyle, prefix: str) -> str:
    """f and f′ side by side as an SVG element in the colours of the page it stands in.

    To be called inside of `drawing()`. The ids in it begin with `prefix`.
    """
    expression = as_expression(expression)
    family = _family(expression, {})
    columns = [
        [sample(f, values, within=expression) for values, _ in family]
        for f in _functions(expression, 1)
    ]
    figure = new_figure(4.3, 1.85, PLACEHOLDERS, layout=None)
    figure.subplots_adjust(left=0.085, right=0.99, bottom=0.115, top=0.88, wspace=0.24)
    for panel, name, curves in zip(figure.subplots(1, 2), _NAMES, columns, strict=False):
        _draw(panel, curves, [line] * len(curves), SPAN, PLACEHOLDERS, _FADES)
        panel.set_title(name, color=PLACEHOLDERS["ink"], loc="left", pad=4, parse_math=False)
    seen = "; ".join(
        _told(f"{name} {label}".strip(), curve)
        for name, curves in zip(_NAMES, columns, strict=False)
        for (_, label), curve in zip(family, curves, strict=True)
    )
    return inline_svg(figure, prefix, f"f = {expression} for x from −6 to 6. {seen}.")


def caption(expression: str | Expression) -> str:
    """What a plot holds fixed: `beta = 1`, `gate = −2, 0, 2`; empty where there is nothing."""
    expression = as_expression(expression)
    fixed = [f"{p.name} = {_number(p.initial)}" for p in expression.parameters]
    if any(node.name == "gate" for node in expression.inputs):
        fixed.append(f"gate = {', '.join(_number(g) for g in GATES)}")
    return ", ".join(fixed)


def _family(expression: Expression, given: Values) -> list[tuple[dict[str, float], str]]:
    """The values of each curve, and its label where there are several."""
    gated = any(node.name == "gate" for node in expression.inputs)
    names = [p.name for p in expression.parameters] + ["gate"] * gated
    for name in given:
        if name not in names:
            hint = did_you_mean(name, names)
            raise PlotError(f"{name!r} is no parameter of {_shorten(str(expression))}{hint}")
    values = dict(given)
    if gated:
        several = any(isinstance(value, Sequence) for value in values.values())
        values.setdefault("gate", GATES[-1] if several else GATES)
    fixed = {name: float(v) for name, v in values.items() if not isinstance(v, Sequence)}
    lists = {name: list(v) for name, v in values.items() if isinstance(v, Sequence)}
    if not all(np.isfinite([*fixed.values(), *(v for many in lists.values() for v in many)])):
        raise PlotError("the values of parameters are finite numbers")
    if not lists:
        return [(fixed, "")]
    if len(lists) > 1:
        raise PlotError(f"only one name can have several values, not {' and '.join(lists)}")
    [(name, many)] = lists.items()
    if not 1 <= len(many) <= _MOST_VALUES:
        raise PlotError(f"{name} can have 1 to {_MOST_VALUES} values in one plot, not {len(many)}")
    return [({**fixed, name: float(v)}, f"{name} = {_number(v)}") for v in many]


def _functions(expression: Expression, derivatives: int) -> list[Expression]:
    """f, f′, … as expressions."""
    from actsearch.codegen import gradient

    functions = [expression]
    for _ in range(derivatives):
        functions.append(gradient(functions[-1]).get("x", Number(0)))
    return functions


def _draw(
    axes: Axes,
    curves: Sequence[Curve],
    lines: Sequence[LineStyle],
    span: tuple[float, float],
    colours: Mapping[str, str],
    fades: Sequence[float] = (),
) -> None:
    """Curves into one panel, in the view that holds all of theirs."""
    style_axes(axes, colours)
    low = min(curve.view[0] for curve in curves)
    high = max(curve.view[1] for curve in curves)
    axes.set_xlim(*span)
    axes.set_ylim(low, high)
    axes.locator_params(axis="x", nbins=5, steps=[1, 2, 3, 5, 10])
    axes.locator_params(axis="y", nbins=5)
    axes.yaxis.set_major_formatter(lambda value, _: _number(value))
    for place in (axes.axhline, axes.axvline):
        place(0, color=colours["muted"], linewidth=0.7, zorder=1)
    for i, (curve, line) in enumerate(zip(curves, lines, strict=True)):
        fade = fades[i] if len(curves) > 1 and fades else 1.0
        colour = colours[line.colour]
        for x, y in curve.pieces:
            if len(x) == 1:
                axes.plot(x, y, ".", color=colour, markersize=5, alpha=fade)
            else:
                # Far outside of the view every height looks the same; huge ones overflow.
                shown = np.clip(y, low - 9 * (high - low), high + 9 * (high - low))
                axes.plot(
                    x,
                    shown,
                    color=colour,
                    alpha=fade,
                    linewidth=1.8,
                    linestyle=line.matplotlib_dash,
                    solid_capstyle="butt",
                )
    if not any(curve.pieces for curve in curves):
        axes.text(
            0.5, 0.6, "undefined here", color=colours["muted"], ha="center", va="center",
            transform=axes.transAxes,
        )  # fmt: skip


def _told(name: str, curve: Curve) -> str:
    """A curve in words."""
    if not curve.pieces:
        return f"{name} is undefined here"
    y = np.concatenate([y for _, y in curve.pieces])
    parts = f" in {len(curve.pieces)} pieces" if len(curve.pieces) > 1 else ""
    return f"{name} runs from {_number(y.min())} to {_number(y.max())}{parts}"


def _title(expression: Expression) -> str:
    """The text of an expression, and what people call it."""
    named = (n for n in named_activations().values() if n.expression is expression)
    known = next(named, None)
    text = _shorten(str(expression))
    if known is None or not isinstance(expression, Apply):
        return text
    return f"{text}\n{known.title}"


def _shorten(text: str) -> str:
    return text if len(text) <= _TITLE else text[: _TITLE - 1] + "…"


def _number(value: float) -> str:
    return (
        f"{value:.3g}".replace("e+0", "e").replace("e+", "e").replace("e-0", "e-").replace("-", "−")
    )
