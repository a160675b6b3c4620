"""Programs as CUDA C++: scalar functions, and kernels over them.

The scalar functions are those of the target `cpu`, statement by statement, in IEEE arithmetic
without contraction, but for inverses, which are measured as far off as the device's may be: what
was measured about them on the CPU holds on the GPU. Half types have functions with fewer digits. An
element for which this code says that it is lost, or that is out of its measured range, is computed
in float64 by the thread that has it. The float64 code calls CUDA's own functions.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

from actsearch.codegen.programs import DY, Program, Routine
from actsearch.codegen.targets.base import variable_names
from actsearch.codegen.targets.cpu.accuracy import Range
from actsearch.codegen.targets.cpu.elementary import ELEMENTARY
from actsearch.codegen.targets.cpu.rendering import reserved_names
from actsearch.codegen.targets.cpu.statements import statements
from actsearch.codegen.targets.cuda.half import ARITHMETICS, HALF, HALF_NAMES, INVERSE
from actsearch.grammar.expression import Expression

ROUTINES = ("forward", "backward")
Ranges = Mapping[tuple[str, str], Range]
"""Where code that is not float64 is accurate, for each of `VARIANTS`."""

VARIANTS = tuple((routine, kind) for routine in ROUTINES for kind in ("single", "half"))
"""The routines for float32, and for half types."""

_FILES = resources.files(__package__)
KERNELS = _FILES.joinpath("kernels.cuh").read_text(encoding="utf-8")
BINDING = _FILES.joinpath("binding.cpp").read_text(encoding="utf-8")

PRELUDE = """\
#ifdef __CUDACC__
#define INLINE static __device__ __forceinline__
#define APART static __device__ __noinline__
#define INFINITE __int_as_float(0x7f800000)
#define UNDEFINED __int_as_float(0x7fc00000)
#define fma32 __fmaf_rn
#define __builtin_fabsf fabsf
#define __builtin_fabs fabs
#define __builtin_sqrtf __fsqrt_rn
#define __builtin_sqrt __dsqrt_rn
#define __builtin_copysignf copysignf
#define __builtin_copysign copysign
#define from_bits __int_as_float
#define to_bits __float_as_int
INLINE float nearly_inverse(float a) {
    float inverse;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(inverse) : "f"(a));
    return inverse;
}
#else /* on the CPU, for tests */
#include <cmath>
#include <cstring>
using namespace std;
#define INLINE static inline __attribute__((always_inline, unused))
#define APART static __attribute__((noinline))
#define INFINITE __builtin_inff()
#define UNDEFINED __builtin_nanf("")
#define fma32 __builtin_fmaf
INLINE float from_bits(int i) { float f; memcpy(&f, &i, 4); return f; }
INLINE int to_bits(float f) { int i; memcpy(&i, &f, 4); return i; }
@INVERSE@
#endif
""".replace("@INVERSE@", INVERSE)

_SPECIFIC = re.compile(
    r"^(#define|#ifdef|#endif|#else|LIBRARY"
    r"|INLINE (float from_bits|int to_bits|float nearly_inverse))"
)
_DEFINES = re.compile(r"^INLINE \w+ (\w+)\(", re.MULTILINE)
_PLAIN = re.compile(r"[A-Za-z]\w*")
_OURS = re.compile(
    r"(?:out|t|v)\d*(?:_low|_of|_if|_sum|_less)?|d?\w*_(?:pointer|pitch|is_channels|sums)"
)
_NAMES = """T R WIDTH BY_ROW THREADS Sizes Vector Real real put load store spread finish half16
brain16 sizes row column lane lanes memory threadIdx blockIdx blockDim gridDim block
value again y k i j n found is_half class namespace new delete template this throw try
catch typename using virtual private public protected operator friend bool true false
and or not xor nullptr constexpr decltype alignas alignof asm auto explicit export
mutable noexcept requires concept wchar_t char8_t char16_t char32_t torch at c10 std
THREADS INLINE APART KERNEL signbit isnan isinf j0 jn y0 y1 yn gamma index rint round"""


def _elementary() -> list[str]:
    """The functions of elementary.c, a piece for each group, without what is the compiler's."""
    skipping = False
    lines: list[str] = []
    for line in ELEMENTARY.partition("*/")[2].splitlines():
        # the C library's functions are declared already; flags choose what `fast` means
        fast = line.startswith("#ifdef FAST")
        if line.startswith("#ifdef") and not fast:
            skipping = True
        if not skipping and (fast or not _SPECIFIC.match(line) or _inside(lines)):
            lines.append(line)
        if line.startswith("#endif"):
            skipping = False
    return re.split(r"\n{2,}", "\n".join(lines).strip())


def _inside(lines: Sequence[str]) -> bool:
    """Whether the lines so far end inside of an `#ifdef FAST`."""
    opened = sum(line.startswith("#ifdef FAST") for line in lines)
    return opened > sum(line.startswith("#endif") for line in lines)


def _needed(text: str) -> list[str]:
    """Those functions of elementary.c and half.c that some code calls, and those they call."""
    pieces = [*_elementary(), *HALF.partition("\n\n")[2].rstrip().split("\n\n")]
    wanted = set(_PLAIN.findall(text))
    kept: list[str] = []
    for piece in reversed(pieces):  # a function calls those before it
        if set(_DEFINES.findall(piece)) & wanted:
            wanted |= set(_PLAIN.findall(piece))
            kept.append(piece)
    return kept[::-1]


@cache
def _reserved() -> frozenset[str]:
    ends = (*ARITHMETICS, "of", "again", "results", "kernel", "slice")
    generated = [f"{routine}_{end}" for routine in ROUTINES for end in ends]
    others = frozenset([*_NAMES.split(), *_PLAIN.findall(KERNELS), *generated])
    return reserved_names() | HALF_NAMES | others


def _names(program: Program) -> dict[Expression, str]:
    """Variables as C++ may call them: the program's names where they are safe."""
    named = variable_names(program, _reserved())
    return {
        node: name if name.isascii() and not _OURS.fullmatch(name) else f"v{k}"
        for k, (node, name) in enumerate(named.items())
    }


def scalar(program: Program) -> str:
    """The scalar functions with every arithmetic, whichever of them kernels consist of."""
    return complete(_scalar(program, dict.fromkeys(ROUTINES, tuple(ARITHMETICS))))


def complete(code: str) -> str:
    """Code after what it needs."""
    return "\n\n".join([PRELUDE, *_needed(code), code])


def _scalar(program: Program, arithmetics: Mapping[str, Iterable[str]]) -> str:
    """Functions such as `forward_f32`; what is not float64 returns whether it is lost.

    Args:
        program: the activation.
        arithmetics: those of each routine.
    """
    names = _names(program)
    return "\n".join(
        _function(getattr(program, name), names, arithmetic)
        for name in ROUTINES
        for arithmetic in arithmetics[name]
    )


def _function(routine: Routine, names: Mapping[Expression, str], arithmetic: str) -> str:
    renderer = ARITHMETICS[arithmetic]
    real = renderer.real
    arguments = [f"{real} {names[node]}" for node in routine.arguments]
    results = [f"{real} &out{k}" for k in range(len(routine.results))]
    lines = [
        line.replace("[i] = ", " = ", 1) if line.startswith("out") else line
        for line in statements(renderer, routine, names)
    ]
    head = f"INLINE int {routine.name}_{arithmetic}({', '.join([*arguments, *results])}) {{"
    body = "".join(f"    {line}\n" for line in ["int lost = 0;", *lines, "return lost;"])
    return f"{head}\n{body}}}"


def _chosen(program: Program, name: str, ranges: Ranges) -> str:
    """A routine at one element: in float32, and again in float64 where that is not accurate.

    `{routine}_of` returns whether `{routine}_again` has to compute its results. Neither has a
    branch, so that a thread's elements are computed side by side, and results stay in registers:
    those of `{routine}_again`, which is a call, come back as a structure.
    """
    routine, names = getattr(program, name), _names(program)
    results = [f"out{k}" for k in range(len(routine.results))]
    arguments = [names[node] for node in routine.arguments]
    given = ", ".join(f"float {a}" for a in arguments)
    every = ", ".join([*arguments, *results])
    lines = [f"struct {name}_results {{ float {', '.join(results)}; }};"]
    lines += [f"APART {name}_results {name}_again({given}) {{", f"    double {', '.join(results)};"]
    lines += [f"    {name}_f64({every});"]
    lines += [f"    return {{{', '.join(f'(float){r}' for r in results)}}};", "}"]
    single, half = (_attempt(program, name, every, ranges[name, k]) for k in ("single", "half"))
    bodies = {"float": [f"if (is_half) {half}", single], "double": [f"{name}_f64({every});"]}
    for real, body in bodies.items():
        declared = [*(f"{real} {a}" for a in arguments), *(f"{real} &{r}" for r in results)]
        lines += [f"INLINE int {name}_of({', '.join([*declared, 'int is_half'])}) {{"]
        lines += [f"    {line}" for line in [f"{' = '.join(results)} = 0;", *body]]
        lines += ["    return 0;", "}"] if real == "double" else ["}"]
    return "\n".join(lines)


def _attempt(program: Program, name: str, every: str, where: Range) -> str:
    """A statement that computes a routine if its code is accurate, and tells where it is not."""
    if not where.anywhere:
        return "return 1;"
    found = f"{name}_{where.arithmetic}({every})"
    names = _names(program)
    for size in (f"__builtin_fabsf({names[node]})" for node in program.inputs):
        bound = "INFINITE" if math.isinf(where.bound) else f"{where.bound!r}f"
        found += f" | !({size} <= {bound})"
        if where.least:
            found += f" | ({size} > 0.0f) & ({size} < {where.least!r}f)"
    return f"return {found};"


def elementwise(program: Program, ranges: Ranges) -> str:
    """`forward_of` and `backward_of`, which compute one element in either type."""
    return complete(elements(program, ranges))


def elements(program: Program, ranges: Ranges) -> str:
    """The same without the functions that they call."""
    used: dict[str, dict[str, None]] = {name: {} for name in ROUTINES}
    for (name, _), where in ranges.items():
        used[name] |= {where.arithmetic: None} if where.anywhere else {}
    for arithmetics in used.values():
        arithmetics["f64"] = None
    chosen = [_chosen(program, name, ranges) for name in ROUTINES]
    return "\n\n".join([_scalar(program, used), *chosen])


def device(program: Program, ranges: Ranges) -> str:
    """The whole device code, for NVRTC: scalar functions, and the kernels as templates."""
    kernels = [KERNELS.rstrip(), *(_kernel(program, name) for name in ROUTINES)]
    return "\n\n".join([elementwise(program, ranges), *kernels]) + "\n"


TEMPLATE = "template <typename T, int WIDTH, bool BY_ROW>\n"


def _kernel(program: Program, routine: str) -> str:
    """A kernel of an activation."""
    body = BODIES[routine](program)
    rows = ",\n    ".join([*body.pointers, *body.numbers, "const Sizes sizes"])
    memory = "    __shared__ R memory[THREADS];\n" if body.sums else ""
    return (
        f"{TEMPLATE}__global__ void __launch_bounds__(THREADS) {routine}_kernel(\n    {rows}) {{\n"
        "    typedef typename Real<T>::type R;\n"
        f"    const unsigned block = blockIdx.x;\n{memory}{body.code}}}"
    )


@dataclass(frozen=True)
class Body:
    """What one block of threads does to one activation's tensors.

    Attributes:
        pointers: declarations of the tensors: inputs, parameters, results, partial sums.
        numbers: declarations of the inputs' pitches, and whether parameters are per channel.
        code: the statements, which also use `sizes`, `block`, R and, for sums, `memory`.
        sums: whether parameters get sums.
    """

    pointers: list[str]
    numbers: list[str]
    code: str
    sums: bool = False


_OPEN = """\
    const long long row_block = block / sizes.column_blocks;
    const long long column_block = block % sizes.column_blocks;
    const int lanes = 1 << sizes.shift, lane = threadIdx.x & (lanes - 1);
    for (int i = 0; i < sizes.row_steps; ++i) {
        const long long row = (row_block * sizes.row_steps + i) * (THREADS >> sizes.shift)
            + (threadIdx.x >> sizes.shift);
        if (row >= sizes.rows) break;
        for (int k = 0; k < sizes.column_steps; ++k) {
            const long long column =
                ((column_block * sizes.column_steps + k) * lanes + lane) * WIDTH;
            if (column >= sizes.columns) break;
"""


def _loads(inputs: Sequence[str], parameters: Sequence[str]) -> list[str]:
    lines = [f"R {name}[WIDTH];" for name in (*inputs, *parameters)]
    lines += [
        f"load<T, WIDTH>({name}_pointer + row * {name}_pitch + column, {name});" for name in inputs
    ]
    return lines + [
        f"spread<WIDTH, BY_ROW>({name}_pointer, {name}_is_channels, sizes, row, column, {name});"
        for name in parameters
    ]


def _arguments(inputs: Sequence[str], parameters: Sequence[str]) -> tuple[list[str], list[str]]:
    pointers = [f"const T *__restrict__ {name}_pointer" for name in inputs]
    pointers += [
        f"const typename Real<T>::type *__restrict__ {name}_pointer" for name in parameters
    ]
    numbers = [f"long long {name}_pitch" for name in inputs]
    return pointers, numbers + [f"int {name}_is_channels" for name in parameters]


def _loop(lines: Sequence[str]) -> str:
    inner = "".join(f"            {line}\n" for line in lines)
    return f"{_OPEN}{inner}        }}\n    }}\n"


def _elements(routine: Routine, given: str) -> list[str]:
    """The results of WIDTH elements, side by side; then one by one those that are not accurate."""
    results = [f"out{k}" for k in range(len(routine.results))]
    name, each = routine.name, "for (int j = 0; j < WIDTH; ++j)"
    places = ", ".join(f"{r}[j]" for r in results)
    return [
        "unsigned again = 0;",
        "#pragma unroll",
        f"{each}",
        f"    again |= (unsigned)({name}_of({given}, {places}, Real<T>::is_half) != 0) << j;",
        "if (again) {",
        "#pragma unroll",
        f"    {each} if (again >> j & 1) {{",
        f"        const {name}_results found = {name}_again({given});",
        *(f"        {r}[j] = found.{r};" for r in results),
        "    }",
        "}",
    ]


def _forward(program: Program) -> Body:
    names = _names(program)
    inputs = [names[node] for node in program.inputs]
    parameters = [names[node] for node in program.parameters]
    pointers, numbers = _arguments(inputs, parameters)
    given = ", ".join(f"{names[node]}[j]" for node in program.forward.arguments)
    lines = _loads(inputs, parameters)
    lines += ["R out0[WIDTH];", *_elements(program.forward, given)]
    lines += ["store<T, WIDTH>(out0_pointer + row * sizes.columns + column, out0);"]
    return Body([*pointers, "T *__restrict__ out0_pointer"], numbers, _loop(lines))


def _backward(program: Program) -> Body:
    names = _names(program)
    inputs = [names[DY], *(names[node] for node in program.inputs)]
    parameters = [names[node] for node in program.parameters]
    pointers, numbers = _arguments(inputs, parameters)
    count = len(program.inputs)
    results = [f"out{k}" for k in range(len(program.variables))]
    pointers += [f"T *__restrict__ {r}_pointer" for r in results[:count]]
    pointers += [f"typename Real<T>::type *__restrict__ {r}_pointer" for r in results[count:]]
    given = ", ".join(f"{names[node]}[j]" for node in program.backward.arguments)
    lines = [*_loads(inputs, parameters), f"R {', '.join(f'{r}[WIDTH]' for r in results)};"]
    lines += _elements(program.backward, given)
    lines += ["#pragma unroll"] if parameters else []
    lines += [f"for (int j = 0; j < WIDTH; ++j) {r}_sums[j] += {r}[j];" for r in results[count:]]
    lines += [
        f"store<T, WIDTH>({r}_pointer + row * sizes.columns + column, {r});"
        for r in results[:count]
    ]
    sums = "".join(f"    R {r}_sums[WIDTH] = {{}};\n" for r in results[count:])
    ends = "".join(
        f"    finish<WIDTH, BY_ROW>("
        f"{r}_sums, {p}_is_channels, sizes, block, {r}_pointer, memory);\n"
        for r, p in zip(results[count:], parameters, strict=True)
    )
    return Body(pointers, numbers, f"{sums}{_loop(lines)}{ends}", bool(parameters))


BODIES = {"forward": _forward, "backward": _backward}


HEAD = """\
#ifdef TORCH_EXTENSION_NAME /* built by torch.utils.cpp_extension; see the end */
#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/csrc/utils/pybind.h>
#include <c10/cuda/CUDAStream.h>
#include <c10/core/DeviceGuard.h>
#include <cuda_runtime.h>
#endif
"""
_LONGEST = 2000  # characters of a formula in a comment


def source(program: Program) -> str:
    """The exported file: the device code for every type, and a binding for PyTorch."""
    from actsearch.codegen.targets.cuda.operator import ranges

    formula = str(program.expression).replace("*/", "* /")[:_LONGEST]
    title = "/* An activation function for CUDA. Generated by ActSearch.\n *\n"
    title += f" *     y = {formula}\n */"
    dimensions = ", ".join(str(p.dimension) for p in program.parameters) or "0"
    constants = [
        f"static const int64_t INPUTS = {len(program.inputs)};",
        f"static const int64_t PARAMETERS = {len(program.parameters)};",
        f"static const int64_t DIMENSIONS[] = {{{dimensions}}};",
        f'#define FORMULA "y = {_quoted(formula)}"',
    ]
    code = device(program, ranges(program, "accurate"))
    end = ["#ifdef TORCH_EXTENSION_NAME", *constants, BINDING + "#endif"]
    return "\n\n".join([title, HEAD + "\n" + code, "\n".join(end)]) + "\n"


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', "'")
