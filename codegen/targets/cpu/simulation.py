"""What plain float32 code computes, simulated before it is compiled.

Each step is rounded as the code rounds it, and what the code carries along is carried. Functions
are taken to be off by a little more than their rounding, in no particular way.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from actsearch.codegen.probes import Array
from actsearch.codegen.programs import EXACT, Earlier, Operand, Routine, to_single
from actsearch.codegen.targets.cpu.arithmetics import RENDERERS
from actsearch.codegen.trials import rounded
from actsearch.grammar.evaluate import apply_numpy

_PLAIN = RENDERERS["f32"]
_ROUNDED_ONCE = EXACT | {"add", "sub", "mul", "div", "sqrt"}
_OFF = 0.6 * 2.0**-24  # of a function's value, at most
_ERRORS = np.random.default_rng(0).uniform(-_OFF, _OFF, 4096)
_APART = 61  # places in them, from one step's to the next


def simulated(routine: Routine, arguments: Sequence[Array]) -> dict[Operand, Array]:
    """Every operand of a routine, as its float32 code has it.

    Args:
        routine: what the code computes.
        arguments: float32 numbers that can be broadcast, elements along the last dimension.
    """
    known: dict[Operand, Any] = {
        node: argument.astype(np.float64)
        for node, argument in zip(routine.arguments, arguments, strict=True)
    }
    lows: dict[Operand, Any] = {}
    corrected = _PLAIN.corrected(routine)
    carried = _PLAIN.carried(routine, corrected)
    for place, step in enumerate(routine.steps):
        step = _PLAIN.simplified(step)
        for operand in step.operands:
            if isinstance(operand, float):
                known[operand] = np.float64(to_single(operand))
                lows[operand] = operand - known[operand] if math.isfinite(operand) else 0.0
        plain = [known[operand] for operand in step.operands]
        whole = [known[operand] + lows.get(operand, 0.0) for operand in step.operands]
        if fused := _PLAIN.fused(step, routine.steps):
            value = _of_softplus(step.operator, known[fused[1]], fused[2:])
        elif place in corrected:
            value = apply_numpy(step.operator, *whole)
        elif _PLAIN.carries(step.operator):
            value = apply_numpy(step.operator, whole[0], *plain[1:])
        else:
            value = apply_numpy(step.operator, *plain)
        value = np.asarray(value)
        if step.operator not in _ROUNDED_ONCE:
            start = place * _APART % (len(_ERRORS) // 2)
            value = value * (1 + _ERRORS[start : start + value.shape[-1]])
        known[Earlier(place)] = rounded(value)
        if place in carried - corrected:
            exact = value if fused else apply_numpy(step.operator, *whole)
            low = exact - known[Earlier(place)]
            lows[Earlier(place)] = np.where(np.isfinite(low), low, 0.0)
    known |= {result: np.float64(result) for result in routine.results if isinstance(result, float)}
    return known


def _of_softplus(operator: str, argument: Array, factor: Sequence[float]) -> Array:
    """A function of `factor * softplus(argument)`, in one."""
    inner = apply_numpy("softplus", argument)
    return np.asarray(apply_numpy(operator, *(number * inner for number in factor or (1.0,))))
