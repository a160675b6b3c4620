"""Generated activations next to what PyTorch offers, in one process, as multiples of a floor.

The floor is memory traffic alone, into buffers that exist already: for forward one copy of x, for
forward+backward that and one product of x and dy. Contestants allocate their results, from an
allocator that is kept warm. They take turns, and medians are compared. Parameters change a little
before each call, as they do in training. `eager` is the stable formula in PyTorch operators,
`script` and `compiled` are the same through torch.jit.script and torch.compile, `native` is
PyTorch's own function where it has one.
"""

from __future__ import annotations

import argparse
import ctypes
import itertools
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

from actsearch.counts import positive
from actsearch.grammar import parse, space
from actsearch.grammar.errors import UsageError

CASES = (
    "silu(x)",
    "mish(x)",
    "gelu(x)",
    "x*atan(x)",
    "x*sigmoid(beta*x); beta = 1.0 per channel",
    "max(x, sigmoid(beta*x))*cos(tanh(x))",
)
NATIVE = {"silu(x)": "silu", "mish(x)": "mish", "gelu(x)": "gelu"}
CHANNELS = 64
DTYPES = ("float32", "float64", "bfloat16", "float16")
CONTESTANTS = ("eager", "native", "script", "compiled")
_CHANGES = (1.001, 1 / 1.001)  # of parameters, from one call to the next
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of glibc's mallopt

Pass = Callable[[], object]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `actsearch bench kernels` takes."""
    parser.add_argument("expressions", nargs="*", metavar="EXPR", help="default: six of all kinds")
    parser.add_argument(
        "--random",
        type=positive,
        metavar="N",
        help="instead, N random expressions of swish, two units",
    )
    parser.add_argument(
        "--elements", type=positive, nargs="+", default=[10**4, 10**6, 10**7], metavar="N"
    )
    parser.add_argument("--dtypes", nargs="+", default=["float32"], choices=DTYPES)
    parser.add_argument("--rounds", type=positive, default=15, metavar="N", help="default: 15")
    parser.add_argument("--device", default="cpu", help="default: cpu")
    parser.add_argument("--precision", default="accurate", choices=("accurate", "fast"))
    parser.add_argument(
        "--without", nargs="*", default=[], choices=CONTESTANTS, help="contestants to leave out"
    )


def run(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """One row for each expression, size, type and pass.

    Returns:
        case, elements, dtype, backend; ours and floor: milliseconds, medians; ratio: ours/floor;
        eager, native, script, compiled: multiples of the floor, None where there is none;
        peak: most bytes an element that ours has allocated at a time, results included;
        saved: bytes kept for the backward pass beyond the input and the parameters.
    """
    import torch

    device = torch.device(arguments.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UsageError("there is no CUDA device on this machine")
    _keep_allocator_warm()
    texts = arguments.expressions or list(CASES)
    if arguments.random:
        texts = [str(e) for e in space("swish", units=2).sample(arguments.random, seed=0)]
    rows = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit announces its end
        for text in texts:
            for dtype in arguments.dtypes:
                for elements in arguments.elements:
                    print(f"{text}  {dtype}  {elements:.0e}", file=sys.stderr, flush=True)
                    rows += _measure(text, dtype, elements, device, arguments)
            torch._dynamo.reset()
    return rows


def _measure(
    text: str, dtype: str, elements: int, device: Any, arguments: argparse.Namespace
) -> list[dict[str, Any]]:
    """The rows of one expression at one size."""
    import torch

    from actsearch.codegen import compile

    ours = compile(text, num_parameters=CHANNELS, device=device, precision=arguments.precision)
    shape = (max(elements // CHANNELS, 1), CHANNELS)
    x = torch.randn(shape, device=device).to(getattr(torch, dtype))
    dy, y, dx = torch.randn_like(x), torch.empty_like(x), torch.empty_like(x)
    parameters = list(ours.parameters())
    changes = itertools.cycle(_CHANGES)
    functions: dict[str, Callable[..., Any]] = {"ours": ours}
    functions |= _contestants(text, parameters, arguments.without)

    def train() -> None:
        factor = next(changes)
        with torch.no_grad():
            for parameter in parameters:
                parameter.mul_(factor)

    def forward(function: Callable[..., Any]) -> Pass:
        def call() -> object:
            train()
            with torch.no_grad():
                return function(x)

        return call

    def both(function: Callable[..., Any]) -> Pass:
        leaf = x.clone().requires_grad_()
        wanted = [leaf, *parameters]

        def call() -> object:
            train()
            return torch.autograd.grad(function(leaf), wanted, dy, allow_unused=True)

        return call

    def copy_and_multiply() -> None:
        y.copy_(x)
        torch.mul(x, dy, out=dx)

    rows = []
    for name, make, floor in (
        ("forward", forward, lambda: y.copy_(x)),
        ("forward+backward", both, copy_and_multiply),
    ):
        passes = {label: make(function) for label, function in functions.items()}
        passes = {label: p for label, p in passes.items() if _works(label, p)}
        medians = _medians({"floor": floor} | passes, arguments.rounds, device)
        ratios = {label: medians[label] / medians["floor"] for label in passes}
        rows.append(
            {
                "case": f"{text}, {name}",
                "elements": x.numel(),
                "dtype": dtype,
                "backend": ours.backend,
                "ours": medians["ours"] * 1e3,
                "floor": medians["floor"] * 1e3,
                "ratio": ratios["ours"],
                **{label: ratios.get(label) for label in CONTESTANTS},
                "peak": round(_peak(passes["ours"], device) / x.numel(), 2),
                "saved": _saved(ours, x, parameters),
            }
        )
    return rows


def _contestants(
    text: str, parameters: list[Any], without: list[str]
) -> dict[str, Callable[..., Any]]:
    """The formula in PyTorch operators, in each of the ways to run it."""
    import torch

    from actsearch.codegen.programs import program
    from actsearch.codegen.sources import load
    from actsearch.codegen.targets.torch import source

    formula = load(source(program(parse(text))))._forward

    def bound(function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda x: function(x, *parameters)

    found: dict[str, Callable[..., Any]] = {"eager": bound(formula)}
    if text in NATIVE:
        found["native"] = getattr(torch.nn.functional, NATIVE[text])
    if "script" not in without:
        found["script"] = bound(torch.jit.script(formula))
    found["compiled"] = bound(torch.compile(formula, dynamic=False))
    return {label: function for label, function in found.items() if label not in without}


def _works(label: str, call: Pass) -> bool:
    """Whether a contestant can run this at all; it is warm afterwards."""
    try:
        for _ in range(3):
            call()
    except Exception as error:
        if label == "ours":
            raise
        print(f"  {label} failed: {type(error).__name__}", file=sys.stderr)
        return False
    return True


def _medians(passes: dict[str, Pass], rounds: int, device: Any) -> dict[str, float]:
    """Seconds a call, taking turns; short ones are repeated within a turn."""
    import torch

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize()

    def seconds(call: Pass, repeats: int) -> float:
        wait()
        start = time.perf_counter()
        for _ in range(repeats):
            call()
        wait()
        return (time.perf_counter() - start) / repeats

    repeats = {label: max(1, int(2e-3 / seconds(call, 3))) for label, call in passes.items()}
    found: dict[str, list[float]] = {label: [] for label in passes}
    for _ in range(rounds):
        for label, call in passes.items():
            found[label].append(seconds(call, repeats[label]))
    return {label: statistics.median(times) for label, times in found.items()}


def _peak(call: Pass, device: Any) -> int:
    """Most bytes that a call has allocated at a time."""
    import torch

    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        return int(torch.cuda.max_memory_allocated() - before)
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # it says on stderr that it begins and ends
    with torch.profiler.profile(profile_memory=True) as profiled:
        call()
    events = profiled.profiler.kineto_results.events()
    changes: list[tuple[int, int]] = sorted(
        (event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]"
    )
    return max(itertools.accumulate((size for _, size in changes), initial=0))


def _saved(module: Any, x: Any, parameters: list[Any]) -> int:
    """Bytes that autograd keeps beyond the input and the parameters."""
    import torch

    leaf = x[:1].clone().requires_grad_()
    known = {t.untyped_storage().data_ptr() for t in (leaf, *parameters)}
    kept = 0

    def pack(tensor: Any) -> Any:
        nonlocal kept
        if tensor.untyped_storage().data_ptr() not in known:
            kept += tensor.numel() * tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        module(leaf)
    return kept


def _keep_allocator_warm() -> None:
    """Large blocks come from the heap and stay there, where the C library can be told so."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    mallopt(_M_MMAP_MAX, 0)
    mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
