"""Charts of a study: reward over trials, and learning curves.

To be called inside of `drawing()`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from actsearch.report.figure import inline_svg, new_figure, style_axes
from actsearch.report.palette import PLACEHOLDERS as INK
from actsearch.report.palette import LineStyle

Floats = NDArray[np.float64]


def reward_chart(
    trials: Sequence[Mapping[str, Any]],
    baselines: Sequence[Mapping[str, Any]],
    styles: Mapping[str, LineStyle],
) -> str:
    """Reward of every trial in the order of proposal, the best so far, and the baselines' means.

    Args:
        trials: of a study, with at least one reward.
        baselines: rows on the split that the search saw.
        styles: how functions of the leaderboard are drawn; their trials stand out.
    """
    done = [t for t in trials if t["state"] == "done" and t["reward"] is not None]
    failed = [t["number"] for t in trials if t["state"] == "failed"]
    numbers = np.array([t["number"] for t in done])
    rewards = 100 * np.array([t["reward"] for t in done])
    best = np.maximum.accumulate(rewards)
    lines = {
        row["expression"]: 100 * row["mean"]
        for row in baselines
        if row["mean"] is not None and row["expression"] in styles
    }
    low, high = _reward_view(rewards, list(lines.values()))
    last = max(t["number"] for t in trials)

    figure = new_figure(10.5, 3.7, INK)
    axes = figure.subplots()
    style_axes(axes, INK)
    axes.set_xlim(-0.01 * last - 0.5, last * 1.01 + 0.5)
    axes.set_ylim(low - 0.1 * (high - low), high + 0.05 * (high - low))
    shown = rewards >= low
    axes.plot(numbers[shown], rewards[shown], ".", color=INK["muted"], alpha=0.6, markersize=5)
    axes.step([*numbers, last], [*best, best[-1]], where="post", color=INK["ink"], linewidth=1.3)
    for expression, mean in lines.items():
        style = styles[expression]
        axes.axhline(
            mean,
            color=INK[style.colour],
            linestyle=style.matplotlib_dash,
            linewidth=1.1,
            zorder=1.5,
        )
    for trial, reward in zip(done, rewards, strict=True):
        if trial["expression"] in styles:
            colour = INK[styles[trial["expression"]].colour]
            axes.plot(trial["number"], reward, "o", color=colour, markersize=7)
    for places, height, marker, colour in (
        (numbers[~shown], 0.065, "v", "muted"),
        (failed, 0.025, "x", "ink"),
    ):
        axes.plot(
            places,
            np.full(len(places), height),
            marker=marker,
            linestyle="none",
            color=INK[colour],
            alpha=0.8,
            markersize=4,
            transform=axes.get_xaxis_transform(),
        )
    axes.set_xlabel("trial, in the order of proposal")
    axes.set_ylabel("validation accuracy (%)")
    peak = done[int(np.argmax(rewards))]
    description = (
        f"Reward of {len(done)} trained candidates in the order of proposal. The best so far "
        f"rises from {rewards[0]:.1f} % to {best[-1]:.1f} %, reached at trial {peak['number']}."
        + (f" {len(failed)} trials failed." if failed else "")
    )
    return inline_svg(figure, "reward", description)


def _reward_view(rewards: Floats, means: Sequence[float]) -> tuple[float, float]:
    """The range of rewards worth its height: bad candidates may lie far below it."""
    high = float(max(rewards.max(), *means)) if means else float(rewards.max())
    middle = float(np.median(rewards))
    low = max(float(rewards.min()), middle - 1.5 * (high - middle))
    low = min([low, *means])
    return (low, high) if high - low > 1e-9 else (low - 1.0, high + 1.0)


def learning_chart(
    curves: Mapping[str, Sequence[tuple[float, float]]], styles: Mapping[str, LineStyle]
) -> str:
    """Training loss over steps, on a logarithmic scale.

    Args:
        curves: by expression, at least one (step, loss) point with a loss above 0.
        styles: how each function is drawn.
    """
    figure = new_figure(10.5, 3.5, INK)
    axes = figure.subplots()
    style_axes(axes, INK)
    ends = []
    for expression, curve in curves.items():
        steps, losses = zip(*curve, strict=True)
        style = styles[expression]
        axes.plot(
            steps,
            losses,
            color=INK[style.colour],
            linestyle=style.matplotlib_dash,
            linewidth=1.5,
        )
        ends.append(f"{expression} {losses[-1]:.2g}")
    axes.set_yscale("log")
    _plain_ticks(axes)
    axes.set_xlabel("optimiser step")
    axes.set_ylabel("training loss (nats)")
    description = f"Training loss over steps. It ends at: {', '.join(ends)}."
    return inline_svg(figure, "learning", description)


def _plain_ticks(axes: Any) -> None:
    """0.5, 1, 2 instead of 5 × 10⁻¹, 10⁰, 2 × 10⁰."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

    low, high = axes.get_ylim()
    subs = (1.0, 2.0, 5.0) if high / low < 1e3 else (1.0,)
    axes.yaxis.set_major_locator(LogLocator(subs=subs))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_minor_formatter(NullFormatter())
