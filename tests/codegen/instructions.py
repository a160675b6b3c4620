"""How many instructions CUDA kernels take for an element, counted in their machine code.

`python -m tests.codegen.instructions` prints a table for sm_90. It needs NVRTC, and nvdisasm, which
comes with CUDA and with Triton. Counted is the shortest way through the loop over tiles, which is
that of elements for which float32 suffices, with what loads, stores and addresses take. Beside it
are the special functions: a quarter as many of these as of other instructions can be begun in a
cycle on sm_80, an eighth on others.
"""

from __future__ import annotations

import argparse
import itertools
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import networkx

from actsearch.codegen.programs import Program, program
from actsearch.codegen.targets.cuda import nvrtc, operator, rendering
from actsearch.grammar import parse

FORMULAS = (
    "silu(x)",
    "gelu(x)",
    "mish(x)",
    "x*atan(x)",
    "x*sigmoid(beta*x); beta = 1 per channel",
    "max(x, sigmoid(beta*x))*cos(tanh(x))",
)
TYPES = {"float": 4, "brain16": 8}
ARCHITECTURE = 90
_SPECIAL = "MUFU"
_LOCAL = frozenset({"LDL", "STL"})
_INSTRUCTION = re.compile(r"\s+/\*[0-9a-f]+\*/\s+(?:(@\S+)\s+)?(\S[^;]*);")
_LABEL = re.compile(r"(\.L_x_\d+):")
_TARGET = re.compile(r"`\((\.L_x_\d+)\)")


@dataclass(frozen=True)
class Count:
    """What a kernel's loop takes for an element.

    Attributes:
        instructions: of all kinds.
        special: special functions among them: inverses, powers of 2, roots.
        local: accesses to local memory among them, which should be none.
    """

    instructions: float
    special: float
    local: float


def disassembler() -> str | None:
    """nvdisasm, where it is installed."""
    found = find_spec("triton")
    folders = found.submodule_search_locations if found else None
    beside = Path(next(iter(folders or [""]))) / "backends/nvidia/bin"
    return shutil.which("nvdisasm") or shutil.which("nvdisasm", path=str(beside))


def count(compiled: Program, routine: str, kind: str, precision: str = "accurate") -> Count:
    """The instructions of a kernel over rows of aligned elements."""
    width = TYPES[kind]
    kernel = f"{routine}_kernel<{kind}, {width}, true>"
    source = rendering.device(compiled, operator.ranges(compiled, precision))
    flags = ["-DFAST"] if precision == "fast" else []
    code, _ = nvrtc.compile(source, ARCHITECTURE, [kernel], *flags)
    way = _way(_disassembled(code))
    special = sum(name == _SPECIAL for name in way)
    local = sum(name in _LOCAL for name in way)
    return Count(len(way) / width, special / width, local / width)


def _disassembled(code: bytes) -> list[str]:
    """The lines of the kernel, without functions that it calls."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.cubin"
        path.write_bytes(code)
        command = [disassembler() or "nvdisasm", "-c", str(path)]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return re.split(r"^\.text\.\S*_kernel", text, flags=re.MULTILINE)[1].splitlines()


def _way(lines: list[str]) -> list[str]:
    """The instructions of one turn of the innermost loop that stores, by the shortest way."""
    names: list[str] = []
    jumps: list[tuple[int, str, bool]] = []  # from where, whereto, whether always
    labels: dict[str, int] = {}
    for line in lines:
        if label := _LABEL.match(line):
            labels[label[1]] = len(names)
        elif found := _INSTRUCTION.match(line):
            condition, text = found.groups()
            label = _TARGET.search(text)
            if label and text.startswith("BRA"):
                jumps.append((len(names), label[1], condition is None and "," not in text))
            names.append(re.split(r"[. ]", text)[0])
    ways = networkx.DiGraph((k, k + 1) for k in range(len(names) - 1))
    for place, target, always in jumps:
        if always:
            ways.remove_edge(place, place + 1)
        ways.add_edge(place, labels[target])
    load = names.index("LDG")
    stores = [k for k, name in enumerate(names) if name == "STG"]
    back = [(k, labels[head]) for k, head, _ in jumps if labels[head] <= load < k]
    end, begin = next((k, head) for k, head in back if any(load < s < k for s in stores))
    store = max(s for s in stores if s < end)
    stops = [begin, load, store, end]
    parts = [networkx.shortest_path(ways, a, b) for a, b in itertools.pairwise(stops)]
    return [names[k] for k in [begin, *(k for part in parts for k in part[1:])]]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("formulas", nargs="*", default=FORMULAS)
    parser.add_argument("--precision", choices=("accurate", "fast"), default="accurate")
    arguments = parser.parse_args()
    columns = [(kind, routine) for kind in TYPES for routine in rendering.ROUTINES]
    heads = " | ".join(f"{'float32' if k == 'float' else 'bfloat16'} {r}" for k, r in columns)
    print(f"| | {heads} |\n|{' --- |' * (1 + len(columns))}")
    for text in arguments.formulas:
        compiled = program(parse(text))
        cells = [count(compiled, routine, kind, arguments.precision) for kind, routine in columns]
        shown = " | ".join(f"{c.instructions:.0f} ({c.special:.0f})" for c in cells)
        print(f"| `{text}` | {shown} |", flush=True)


if __name__ == "__main__":
    main()
