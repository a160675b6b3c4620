"""Populations as CUDA C++: one kernel, in which each block of threads belongs to one slice.

Every activation is a function that the compiler does not inline, so that the kernel is no longer
than the activations together. Parameters come as one array, the shared ones first, then those per
channel; their sums go into one array of the same order, one for each block of a slice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from actsearch.codegen.programs import Program
from actsearch.codegen.targets.cuda import rendering

_REAL = "typename Real<T>::type"


def source(programs: Sequence[Program], ranges: Mapping[Program, rendering.Ranges]) -> str:
    """The device code for programs, one for each slice: kernels as templates."""
    namespaces = {own: f"a{k}" for k, own in enumerate(dict.fromkeys(programs))}
    elements = [
        f"namespace {name} {{\n{rendering.elements(own, ranges[own])}\n}}"
        for own, name in namespaces.items()
    ]
    slices = [
        f"namespace {name} {{\n{_slice(own, routine)}\n}}"
        for own, name in namespaces.items()
        for routine in rendering.ROUTINES
    ]
    kernels = [
        _kernel([namespaces[own] for own in programs], programs, routine)
        for routine in rendering.ROUTINES
    ]
    code = rendering.complete("\n\n".join(elements))
    return "\n\n".join([code, rendering.KERNELS.rstrip(), *slices, *kernels]) + "\n"


def _slice(program: Program, routine: str) -> str:
    """What a block does to a slice, as a function."""
    body = rendering.BODIES[routine](program)
    rows = [*body.pointers, *body.numbers, "const Sizes &sizes", "unsigned block"]
    declared = ",\n    ".join([*rows, f"{_REAL} *memory"])
    return (
        f"{rendering.TEMPLATE}APART void {routine}_slice(\n    {declared}) {{\n"
        f"    typedef {_REAL} R;\n{body.code}}}"
    )


def _kernel(namespaces: Sequence[str], programs: Sequence[Program], routine: str) -> str:
    """The kernel: every slice has as many blocks."""
    inputs = [node.name for node in programs[0].inputs]
    read = inputs if routine == "forward" else ["dy", *inputs]
    written = [f"out{k}" for k in range(1 if routine == "forward" else len(inputs))]
    arguments = [f"const T *__restrict__ {name}" for name in read]
    arguments += [f"T *__restrict__ {name}" for name in written]
    arguments += [f"const {_REAL} *__restrict__ parameters", f"{_REAL} *__restrict__ sums"]
    arguments += [f"long long {name}_pitch" for name in read]
    arguments += [f"long long {name}_step" for name in read]
    arguments += ["long long step", "long long blocks", "long long channel_sums"]
    steps = [f"    {name} += slice * {name}_step;\n" for name in read]
    steps += [f"    {name} += slice * step;\n" for name in written]
    places = _places(programs)
    shared = sum(not is_channels for found in places for is_channels, _ in found)
    cases = []
    for k, (namespace, found) in enumerate(zip(namespaces, places, strict=True)):
        given, results = [], []
        for is_channels, place in found:
            if is_channels:
                given.append(f"parameters + {shared} + {place} * sizes.channels")
                results.append(f"sums + {shared} * blocks + {place} * channel_sums")
            else:
                given.append(f"parameters + {place}")
                results.append(f"sums + {place} * blocks")
        passed = [*read, *given, *written, *(results if routine == "backward" else [])]
        passed += [f"{name}_pitch" for name in read]
        passed += ["sizes.channels > 1" if is_channels else "0" for is_channels, _ in found]
        passed += ["sizes", "block", "memory"]
        call = f"{namespace}::{routine}_slice<T, WIDTH, BY_ROW>({', '.join(passed)})"
        cases.append(f"    case {k}: {call}; break;\n")
    declared = ",\n    ".join([*arguments, "const Sizes sizes"])
    return (
        f"{rendering.TEMPLATE}__global__ void __launch_bounds__(THREADS) {routine}_kernel(\n"
        f"    {declared}) {{\n"
        f"    __shared__ {_REAL} memory[THREADS];\n"
        "    const long long slice = blockIdx.x / blocks;\n"
        f"    const unsigned block = blockIdx.x % blocks;\n{''.join(steps)}"
        f"    switch (slice) {{\n{''.join(cases)}    }}\n}}"
    )


def _places(programs: Sequence[Program]) -> list[list[tuple[bool, int]]]:
    """For each program's parameters whether they are per channel, and their place among those."""
    counts = {False: 0, True: 0}
    found = []
    for program in programs:
        own = []
        for parameter in program.parameters:
            is_channels = parameter.scope == "per channel"
            own.append((is_channels, counts[is_channels]))
            counts[is_channels] += 1
        found.append(own)
    return found
