"""What half types are computed with: float32 with fewer digits, in functions of half.c."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence, Set
from importlib import resources

from actsearch.codegen.programs import Routine, Step
from actsearch.codegen.targets.base import Code
from actsearch.codegen.targets.cpu.arithmetics import RENDERERS, CRenderer, Single

HALF = resources.files(__package__).joinpath("half.c").read_text(encoding="utf-8")
HALF_NAMES = frozenset(re.findall(r"[A-Za-z_]\w*", HALF))
"""Names that a variable beside it cannot have."""

_DEFINED = frozenset(re.findall(r"^INLINE float (\w+)_half\(", HALF, re.MULTILINE))


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
