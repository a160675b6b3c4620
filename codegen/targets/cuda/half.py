"""What half types are computed with: float32 with fewer digits, in functions of half.c."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence, Set
from importlib import resources

from actsearch.codegen.programs import Routine, Step
from actsearch.codegen.targets.base import Code
from actsearch.codegen.targets.cpu.arithmetics import RENDERERS, CRenderer, Single
from actsearch.codegen.targets.cpu.elementary import ELEMENTARY

HALF = resources.files(__package__).joinpath("half.c").read_text(encoding="utf-8")
HALF_NAMES = frozenset(re.findall(r"^INLINE \w+ (\w+)\(", HALF, re.MULTILINE))
"""Its functions, whose names variables cannot have."""

_DEFINED = frozenset(name.removesuffix("_half") for name in HALF_NAMES if name.endswith("_half"))
_INVERSE = "INLINE float nearly_inverse(float a) { return 1.0f / a; }"
INVERSE = """\
INLINE float nearly_inverse(float a) { /* as far off as a GPU's may be */
    const float least = 1.17549435e-38f;
    float inverse = 1.0f / (__builtin_fabsf(a) < least ? __builtin_copysignf(0.0f, a) : a);
    float size = __builtin_fabsf(inverse);
    int off = (size >= least) & (size < INFINITE) ? to_bits(a) & 1 ? 1 : -1 : 0;
    return size < least ? __builtin_copysignf(0.0f, a) : from_bits(to_bits(inverse) + off);
}"""
"""What the device's instruction is on the CPU, where code for the device is measured and tested."""

TWIN = "\n".join([ELEMENTARY.replace(_INVERSE, INVERSE), HALF])
"""The functions that code for the device calls, in C."""


class Half(Single):
    """In float32, of which half types keep 8 or 11 bits: what rounding takes is left."""

    def call(
        self, operator: str, operands: Sequence[Code], low: str | None, rest: str | None = None
    ) -> str:
        text = super().call(operator, operands, low, rest)
        return text.replace("_f32(", "_half(", 1) if operator in _DEFINED else text

    def step(self, step: Step, operands: Sequence[Code]) -> Code:
        if step.operator == "div":
            a, b = (operand.text for operand in operands)
            return Code(f"div_half({a}, {b}, &lost)")
        return super().step(step, operands)

    def carries(self, operator: str) -> bool:
        return False

    def pairs(self, operator: str) -> bool:
        return False

    def corrected(self, routine: Routine) -> set[int]:
        return set()

    def carried(self, routine: Routine, corrected: Set[int]) -> set[int]:
        return set()


ARITHMETICS: Mapping[str, CRenderer] = RENDERERS | {"half": Half()}
"""What scalar functions compute with, by the ends of their names."""
