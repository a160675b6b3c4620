"""The target `cpu`: its elementary functions, its cache, its fallbacks, and its operator."""

from __future__ import annotations

import ctypes
import math
import re
import subprocess
import sys
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import mpmath
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from actsearch.codegen import compile, compile_all, program, targets
from actsearch.codegen import probes as probes_of
from actsearch.codegen.programs import Program
from actsearch.codegen.targets import BuildError
from actsearch.codegen.targets.cpu import accuracy, build, kernels, rendering, toolchain
from actsearch.codegen.targets.cpu import library as operator
from actsearch.codegen.targets.cpu.elementary import ELEMENTARY
from actsearch.grammar import named_activations, parse
from actsearch.grammar.evaluate import evaluate
from actsearch.grammar.operators import COMPARISONS, OPERATORS
from actsearch.grammar.search_space import space

UNARY = sorted(n for n, row in OPERATORS.items() if row.arity == 1 and n != "neg")
BINARY = ("hypot", "max", "min", "pow")
ULPS = {"tan": 4.0, "erfc": 4.0}  # of float32; the others 2.5
PAIR_ULPS = {
    "erf": 0.7,
    "erfc": 1.0,
    "expm1": 0.8,
    "softplus": 0.8,
}  # of value and rest together; else 0.5
WIDE_ULPS = {"i0e": 16, "i1e": 16, "j1": 40, "sigmoid": 4, "softplus": 4}  # of float64; else 4


def loops() -> str:
    """A loop over every operator in both precisions, and the elementary functions."""
    code = [ELEMENTARY]
    for name in (*UNARY, *BINARY):
        for precision, real in (("f32", "float"), ("f64", "double")):
            lost = ", &lost" if f"{name}_{precision}" in _LOSING else ""
            more = ", b[i]" if name in BINARY else ""
            code.append(
                f"int {name}_loop_{precision}(long n, const {real} *const *in, {real} *const *out)"
                f" {{ const {real} *restrict a = in[0], *restrict b = in[1];"
                f" {real} *restrict y = out[0]; int lost = 0;"
                f" for (long i = 0; i < n; ++i) y[i] = {name}_{precision}(a[i]{more}{lost});"
                " return lost; }"
            )
    code.append(
        "int less_by_loop_f32(long n, const float *const *in, float *const *out)"
        " { const float *restrict rest = in[0], *restrict b = in[1]; float *restrict y = out[0];"
        " for (long i = 0; i < n; ++i) y[i] = less_by(rest[i], b[i]); return 0; }"
    )
    for name in PAIRS:
        more = {"pow": ", b[i]", "sigmoid_of_softplus": ", 2.0f"}.get(name, "")
        lost = ", &lost" if f"{name}_pair_f32" in _LOSING else ""
        code.append(
            f"int {name}_loop_pair(long n, const float *const *in, float *const *out)"
            " { const float *restrict a = in[0], *restrict low = in[1], *restrict b = in[2];"
            " float *restrict y = out[0], *restrict rest = out[1]; int lost = 0;"
            " for (long i = 0; i < n; ++i) { float r;"
            f" y[i] = {name}_pair_f32(a[i]{more}, low[i], &r{lost}); rest[i] = r; }}"
            " return lost; }"
        )
    return "\n".join(code)


_LOSING = set(re.findall(r"(\w+)\([^()]*int \*lost\)", ELEMENTARY))
PAIRS = sorted(re.findall(r"float (\w+)_pair_f32\(", ELEMENTARY))


@cache
def library() -> Any:
    compiler = toolchain.compiler("c")
    vector = ["-DVECTOR_MATH", "-lmvec"] if compiler.vector_math else []
    name = "test-" + toolchain.key(compiler, loops())
    arguments = [*compiler.flags, *vector, "-lm"]
    path = toolchain.cached(name) or toolchain.build(compiler, [name], loops(), *arguments)[0]
    return ctypes.CDLL(str(path))


def run(name: str, precision: str, *arguments: NDArray[Any]) -> tuple[NDArray[Any], bool]:
    function: Callable[..., int] = getattr(library(), f"{name}_loop_{precision}")
    given = list(arguments) + [arguments[0]] * (2 - len(arguments))
    values, lost = accuracy.call(function, given, 1)
    return values[0], lost


def probes() -> NDArray[np.float32]:
    """Floats of every size and sign, and many of ordinary size."""
    generator = np.random.default_rng(5)
    bits = generator.integers(0, 2**32, 3000, dtype=np.uint64).astype(np.uint32)
    every = bits.view(np.float32)
    usual = generator.normal(0, 3, 3000).astype(np.float32)
    edges = np.array([0, 0.5, 0.7, 1, 1.5, 8, 86.9, 88, 104], np.float32)
    points = np.concatenate([every[np.isfinite(every)], usual, edges, -edges])
    return np.sort(points)


@pytest.mark.parametrize("name", UNARY)
def test_elementary_functions_are_accurate(name: str) -> None:
    """Against mpmath, wherever the float32 code does not say that it is lost."""
    x = probes()
    wide = x.astype(np.float64)
    told = np.array([run(name, "f32", x[k : k + 1].copy())[1] for k in range(len(x))])
    found, _ = run(name, "f32", x)
    double, _ = run(name, "f64", wide)
    sample = np.random.default_rng(1).choice(len(x), 700, replace=False)
    exact = evaluate(f"{name}(x)", {"x": wide[sample]}, backend="mpmath", digits=40)
    for k, value in zip(sample, exact, strict=True):
        if not mpmath.isfinite(value):
            continue
        if abs(value) <= np.finfo(np.float32).max and not told[k]:
            unit = np.spacing(max(np.float32(float(abs(value))), np.finfo(np.float32).tiny))
            error = abs(mpmath.mpf(float(found[k])) - value) / mpmath.mpf(float(unit))
            assert error <= ULPS.get(name, 2.5), (name, x[k], float(error))
        if 1e-290 < abs(value) < 1e308:
            unit = np.spacing(max(abs(float(value)), 1e-16 if name in PERIODIC_ROOTS else 0.0))
            error = abs(mpmath.mpf(float(double[k])) - value) / mpmath.mpf(float(unit))
            assert error <= WIDE_ULPS.get(name, 4), (name, wide[k], float(error))


@pytest.mark.parametrize("name", UNARY)
def test_elementary_functions_of_nan_are_nan_or_lost(name: str) -> None:
    payloads = np.array([0x7FC00000, 0xFFC00000, 0x7FC12345, 0x7FFFFFFF, 0xFFFFFFFF], np.uint32)
    for x in payloads.view(np.float32):
        found, lost = run(name, "f32", np.full(16, x))
        assert lost or np.isnan(found).all()


@pytest.mark.parametrize("name", PAIRS)
def test_pairs_tell_what_a_result_lacks(name: str) -> None:
    """f(a + low) is value + rest, against mpmath, where the code does not say that it is lost."""
    generator = np.random.default_rng(3)
    a = probes()[::3]
    low = (a * generator.uniform(-1, 1, len(a)) * 2.0**-25).astype(np.float32)
    power = generator.normal(0, 3, len(a)).astype(np.float32)
    function = getattr(library(), f"{name}_loop_pair")
    (value, rest), _ = accuracy.call(function, [a, low, power], 2)
    told = [
        accuracy.call(function, [v[k : k + 1] for v in (a, low, power)], 2)[1]
        for k in range(len(a))
    ]
    formula = {
        "tanh_of_softplus": "tanh(softplus(x))",
        "sigmoid_of_softplus": "sigmoid(2*softplus(x))",
        "pow": "x**gate",
    }.get(name, f"{name}(x)")
    given = {"x": a.astype(np.float64) + low, "gate": power.astype(np.float64)}
    given = given if name == "pow" else {"x": given["x"]}
    exact = evaluate(formula, given, backend="mpmath", digits=40)
    seen = 0
    for k, right in enumerate(exact):
        if told[k] or not mpmath.isfinite(right) or not 1e-37 < abs(right) < 3e38:
            continue
        unit = float(np.spacing(np.float32(float(abs(right)))))
        if name in {"sin", "cos", "log", "log1p"}:  # as an argument's rest rounds near a root
            unit = max(unit, float(np.spacing(np.float32(1e-3))))
        error = abs(mpmath.mpf(float(value[k])) + mpmath.mpf(float(rest[k])) - right) / unit
        assert error <= PAIR_ULPS.get(name, 0.5), (name, a[k], low[k], float(error))
        assert abs(rest[k]) <= 1.2 * unit
        seen += 1
    assert seen > 100


PERIODIC_ROOTS = frozenset({"j1", "sinc"})  # near their roots their terms cancel


@pytest.mark.parametrize("name", BINARY)
def test_elementary_functions_of_two_arguments(name: str) -> None:
    generator = np.random.default_rng(2)
    a = np.abs(generator.normal(0, 3, 300)).astype(np.float32)
    b = generator.normal(0, 3, 300).astype(np.float32)
    found, _ = run(name, "f32", a, b)
    text = f"{name}(x, gate)" if name != "pow" else "x**gate"
    exact = evaluate(
        text, {"x": a.astype(float), "gate": b.astype(float)}, backend="mpmath", digits=30
    )
    for value, correct in zip(found, exact, strict=True):
        unit = np.spacing(np.float32(abs(correct)))
        assert abs(float(value) - float(correct)) <= 0.6 * unit


def test_what_a_quotient_lacks_is_finite_and_nearly_exact() -> None:
    b = np.concatenate([probes(), [2**-126, 2**126, 1.6e38, 1.7e38, 3e38, np.inf, np.nan]])
    b = np.concatenate([b, -b]).astype(np.float32)
    for rest in np.array([1e-8, -3e-12, 7e-20], np.float32):
        found = run("less_by", "f32", np.full_like(b, rest), b)[0].astype(np.float64)
        with np.errstate(all="ignore"):
            exact = float(rest) / b.astype(np.float64)
        assert np.isfinite(found).all()
        assert (np.isnan(exact) | (np.abs(found) <= 1.01 * np.abs(exact) + 2.0**-149)).all()
        usual = (np.abs(b) >= 2.0**-126) & (np.abs(b) <= 2.0**126) & (np.abs(exact) < 1e38)
        error = np.abs(found - exact)[usual]
        assert (error <= 2.0**-17 * np.abs(exact[usual]) + 2.0**-149).all()


def test_every_operator_is_vectorised(tmp_path: Path) -> None:
    compiler = toolchain.compiler("c")
    if compiler.clang or not compiler.vector_math:
        pytest.skip("reads GCC's report, and needs the vector forms of the C library")
    names = [n for n in OPERATORS if n not in COMPARISONS and n not in {"where", "add", "sub"}]
    assert set(UNARY) <= set(names)
    assert "couldn't vectorize loop" not in vectoriser_report(loops(), tmp_path)


def vectoriser_report(code: str, folder: Path) -> str:
    """What GCC says about the loops of some code."""
    compiler = toolchain.compiler("c")
    source = folder / "loops.c"
    source.write_text(code)
    done = subprocess.run(
        [compiler.path, str(source), "-o", str(folder / "loops.so"), *compiler.flags]
        + ["-DVECTOR_MATH", "-fopt-info-vec-missed", "-lmvec", "-lm"],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stderr


@pytest.mark.parametrize("text", ["exp(erf(x)*sqrt(x)) + log(abs(x) + eps)", "sin(log(x))*x"])
def test_functions_of_undefined_values_are_vectorised(text: str, tmp_path: Path) -> None:
    if toolchain.compiler("c").clang:
        pytest.skip("reads GCC's report")
    variants = [(routine, kind) for routine, _ in kernels.FIRST for kind in ("f32", "pairs")]
    code = rendering.functions(program(parse(text)), variants, "k")
    assert "UNDEFINED" in code
    report = vectoriser_report(ELEMENTARY + code, tmp_path)
    assert "couldn't vectorize loop" not in report


@pytest.mark.parametrize("name", ["mish", "phish", "squareplus", "trainable_selu", "snake"])
def test_pairs_are_vectorised(name: str, tmp_path: Path) -> None:
    if toolchain.compiler("c").clang:
        pytest.skip("reads GCC's report")
    variants = [(routine, "pairs") for routine in rendering.ROUTINES]
    code = rendering.functions(program(parse(named_activations()[name].text)), variants, "k")
    report = vectoriser_report(ELEMENTARY + code, tmp_path)
    assert "couldn't vectorize loop" not in report


def test_the_process_keeps_subnormal_numbers() -> None:
    compile("x*exp(x)", backend="cpu")
    assert torch.tensor(1e-40).mul(0.5).item() > 0
    assert np.float32(1e-40) * np.float32(0.5) > 0


# the operator


@pytest.mark.parametrize("text", ["x*sigmoid(beta*x)", "x*tanh(gate)", "sinh(x)"])
def test_opcheck(text: str) -> None:
    activation = compile(text, backend="cpu")
    (number,) = kernels.load([program(parse(text))], "accurate")
    x = torch.randn(3, 5, requires_grad=True)
    inputs = [x, torch.randn(3, 5)][: 1 + activation._gated]
    variables = [*inputs, *activation.parameters()]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Dynamo's own making
        torch.library.opcheck(torch.ops.actsearch.activation.default, (variables, number))
        plain = [v.detach() for v in variables]
        torch.library.opcheck(
            torch.ops.actsearch.activation_backward.default, (x.detach(), plain, number)
        )


STREAMED = 1 << 24  # bytes of a result, from which on it bypasses the caches


@pytest.mark.parametrize(
    ("text", "dtype"),
    [
        ("x*x + 0.3*x", torch.float32),
        ("x*x + 0.3*x", torch.float64),
        ("x*sigmoid(x)", torch.float32),
        ("x*sigmoid(x)", torch.bfloat16),
        ("x*sin(30*x)", torch.float16),
        ("x*sigmoid(beta*x)", torch.float32),
        ("x*tanh(x + beta)", torch.bfloat16),
        ("x*sigmoid(gate)", torch.float32),
    ],
)
def test_large_tensors_take_the_same_values(text: str, dtype: torch.dtype) -> None:
    """Streaming stores, threads and blocks of any length change nothing, of code or polynomials."""
    activation = compile(text, backend="cpu")
    count = 2 if "gate" in text else 1
    elements, length = STREAMED // dtype.itemsize + 1029, (1 << 20) + 1
    dy, *inputs = torch.randn(1 + count, elements).to(dtype)

    def values(part: slice) -> list[torch.Tensor]:
        given = [x[part].requires_grad_() for x in inputs]
        y = activation(*given)
        return [y.detach(), *torch.autograd.grad(y, given, dy[part])]

    every = values(slice(None))
    for begin in (0, 1_000_000, elements - length):
        part = slice(begin, begin + length)
        for large, small in zip(every, values(part), strict=True):
            assert torch.equal(large[part], small)


def test_sums_do_not_depend_on_threads() -> None:
    activation = compile(
        "x*sigmoid(beta*x) + shift; beta = 1 per channel", backend="cpu", num_parameters=8
    )
    x = torch.randn(300, 8, 11, 13)
    threads = torch.get_num_threads()
    found = []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            y = activation(x)
            found.append(torch.autograd.grad(y, list(activation.parameters()), torch.ones_like(y)))
    finally:
        torch.set_num_threads(threads)
    for other in found[1:]:
        for one, two in zip(found[0], other, strict=True):
            assert torch.equal(one, two)


def test_arguments_out_of_range_are_computed_in_float64() -> None:
    x = torch.linspace(-400, 400, 5000)
    for text in ("x*sigmoid(x)", "sin(1000*x)", "x*exp(-x**2)", "cosh(x)*exp(-abs(x))"):
        exact = torch.from_numpy(evaluate(text, {"x": x.double().numpy()})).float()
        torch.testing.assert_close(
            compile(text, backend="cpu")(x), exact, rtol=3e-7, atol=1e-37, equal_nan=True
        )


@pytest.mark.parametrize(
    "text",
    [
        "gelu(x)",
        "tanh(x)",
        "softplus(x)",
        "x*atan(x)",
        "x*sigmoid(x)",
        "x*sigmoid(beta*x)",
        "x*tanh(softplus(x))",
    ],
)
def test_float32_code_is_accurate_where_it_is_common(text: str) -> None:
    """Without what rounding took from arguments, most of these would be computed in float64."""
    assert range_of(text, "forward").anywhere
    assert range_of(text, "backward").anywhere


def test_float32_code_that_cancels_is_not_used() -> None:
    assert not single_range("x - tanh(x)", "forward", "f32").anywhere
    assert range_of("x - tanh(x)", "forward").least > 0.5  # the pair of tanh(x) reaches so far


@pytest.mark.parametrize(
    ("text", "routine"),
    [
        ("asinh(x) - x**2 + beta*x", "forward"),  # beside 0, where beta is -1
        ("asinh(x) - x**2 + beta*x", "backward"),
        ("x/(exp(-(atan(x)*asinh(x))**2) + eps)", "forward"),  # where the exponential is small
        ("exp(x)/(asinh(x) + eps)", "backward"),
        ("tanh(x) - atan(x)", "backward"),  # beside 0, where pairs cancel, too
    ],
)
def test_what_float32_code_is_not_accurate_for_is_computed_in_float64(
    text: str, routine: str
) -> None:
    """Element by element; 0 is left to float32 code, which has it right."""
    range_ = range_of(text, routine)
    assert range_.anywhere
    activation = compile(text, backend="cpu")
    generator = torch.Generator().manual_seed(11)
    x = 1.7 * torch.randn(1000, generator=generator)
    x[:600] = 0  # more than half of them: were these doubtful, all would be computed in float64
    x[600:700] *= 10.0 ** (-8 * torch.rand(100, generator=generator))
    doubtful = (x.abs() > range_.bound) | ((x.abs() < range_.least) & (x != 0))
    dy = torch.randn(1000, generator=generator)
    place = 0 if routine == "forward" else 1
    found = results(activation, x, dy)[place]
    exact = results(activation.double(), x.double(), dy.double())[place].float()
    assert torch.equal(found[doubtful], exact[doubtful])
    alone = results(activation.float(), x[~doubtful], dy[~doubtful])[place]
    assert torch.equal(found[~doubtful], alone)
    assert 10 < doubtful.sum() < 500
    assert not torch.equal(alone, exact[~doubtful])


def range_of(text: str, routine: str) -> accuracy.Range:
    """Where a routine's float32 code is used."""
    found = [single_range(text, routine, arithmetic) for arithmetic in ("f32", "pairs")]
    return found[0] if found[0].suffices else min(found, key=lambda range_: range_.share_outside)


def single_range(text: str, routine: str, arithmetic: str) -> accuracy.Range:
    """Where a routine's code in one arithmetic is accurate."""
    code = getattr(program(parse(text)), routine)
    compiled = single_code(text, routine, arithmetic)
    return accuracy.single_range(code, "accurate", arithmetic, compiled)


def single_code(text: str, routine: str, arithmetic: str = "f32") -> Callable[..., int]:
    """A routine's float32 code."""
    activation = program(parse(text))
    (number,) = kernels.load([activation], "accurate")
    piece = kernels.Piece(number, activation, "accurate", (routine, arithmetic))
    return getattr(ctypes.CDLL(kernels.compiled([piece])[0]), piece.function)


@pytest.mark.parametrize("name", sorted(set(named_activations()) - {"tanhshrink"}))
def test_named_activations_keep_to_the_tolerance(name: str) -> None:
    """2 and 4 units in the last place, against float64, away from roots, at many numbers.

    Only x - tanh(x) cancels in float64, too.
    """
    _keeps_to_the_tolerance(name, (-20, 7), 1024, MANY // 2)


@pytest.mark.parametrize(
    "name",
    sorted(
        {name for name, named in named_activations().items() if not named.expression.parameters}
        - {"tanhshrink", "phish", "x_asinh_squared"}
    ),
)
def test_named_activations_keep_to_it_in_large_tensors(name: str) -> None:
    """But for polynomials beside 0: around a root, and everywhere if it is of a higher order."""
    _keeps_to_the_tolerance(name, (-2, 7), 1 << 14, 9 << 14)


def _keeps_to_the_tolerance(
    name: str, octaves: tuple[int, int], density: int, at_once: int
) -> None:
    compiled = program(parse(named_activations()[name].text))
    sizes = probes_of.magnitudes(octaves, density)
    for sign in (1, -1):
        x = torch.from_numpy((sign * sizes).astype(np.float32))
        singles, doubles = (_values_and_slopes(compiled, v, at_once) for v in (x, x.double()))
        tolerances = [2.0] + [4.0] * len(compiled.inputs)
        for allowed, found, exact in zip(tolerances, singles, doubles, strict=True):
            rounded = exact.astype(np.float32)
            size = np.where(np.isfinite(rounded), np.abs(exact), 0)
            size = np.maximum(probes_of.scale(exact, size, density), np.finfo(np.float32).tiny)
            error = np.abs(found.astype(float) - exact) / np.spacing(size.astype(np.float32))
            error[(found == rounded) | (np.isnan(found) & np.isnan(exact))] = 0
            assert error.max() <= allowed, (float(x[int(error.argmax())]), error.max())


def _values_and_slopes(compiled: Program, x: torch.Tensor, at_once: int) -> list[NDArray[Any]]:
    """What an activation and its gradients for the inputs are, of so many numbers at a time."""
    function = build(compiled)
    parameters = [torch.tensor(p.initial).to(x.dtype) for p in compiled.parameters]
    found: list[list[torch.Tensor]] = []
    for part in x.split(at_once):
        inputs = [part, torch.full_like(part, 0.7)][: len(compiled.inputs)]
        slopes = function.gradients(torch.ones_like(part), *inputs, *parameters)
        found.append([function(*inputs, *parameters), *slopes[: len(inputs)]])
    return [torch.cat(parts).numpy() for parts in zip(*found, strict=True)]


def test_what_plain_code_cannot_do_is_foretold() -> None:
    """What is compiled in pairs at once fails in plain code; most of what fails is foretold."""
    texts = [str(expression) for expression in space("swish", units=2).sample(24, seed=3)]
    foretold, wrong, fails = 0, 0, 0
    for text in texts:
        compiled = program(parse(text))
        for routine in ("forward", "backward"):
            is_hopeless = accuracy.is_hopeless(getattr(compiled, routine))
            suffices = single_range(text, routine, "f32").suffices
            wrong += is_hopeless and suffices
            fails += not suffices
            foretold += is_hopeless and not suffices
    assert wrong <= 1
    assert foretold > fails / 2 > 5


def test_pairs_take_the_place_of_inaccurate_code() -> None:
    text = named_activations()["phish"].text
    x = torch.randn(256, generator=torch.Generator().manual_seed(0))
    found = build(program(parse(text)))(x)
    f32, pairs = (
        accuracy.call(single_code(text, "forward", kind), [x.numpy()], 1)[0][0]
        for kind in ("f32", "pairs")
    )
    assert np.array_equal(found.numpy(), pairs)
    assert not np.array_equal(f32, pairs)


@pytest.mark.parametrize(
    "text",
    [
        "1 - tanh(beta*x)",  # what 1 lacks is all there is
        "x*(1 - tanh(beta*x))",
        "x*abs(tanh(beta*x) - 1)",
        "relu(1 - tanh(beta*x))*x",
        "x*(1 - tanh(softplus(beta*x)))",
        "x/(1 - tanh(beta*x))",
        "x*log(2 - tanh(x) - tanh(beta*x))",
        "max(tanh(beta*x), tanh(x)) - tanh(x)",
    ],
)
@pytest.mark.parametrize("beta", [1.5, 3.0])
def test_pairs_that_cancel_decide_rightly(text: str, beta: float) -> None:
    """With a parameter that was not measured, the sign and most digits are right."""
    assert single_range(f"{text}; beta = 1.0", "forward", "pairs").bound > 4
    activation = compile(f"{text}; beta = 1.0", backend="cpu")
    wide = compile(f"{text}; beta = 1.0", backend="cpu").double()
    with torch.no_grad():
        for module in (activation, wide):
            module.get_parameter("beta").fill_(beta)
    x = torch.linspace(0.1, 12.0 / beta, 1000)
    torch.testing.assert_close(activation(x).double(), wide(x.double()), rtol=1e-3, atol=1e-9)


@pytest.mark.parametrize(
    ("text", "numbers", "beta"),
    [
        ("{}*where(x/beta > 1, 1, 2); beta = 1", [0.5, 1, 2], 0),
        ("where(x/(x - 1) > 0.3, {0}, -{0})", [1], None),
        ("where(1/abs(x - beta) > 2, {}, -x); beta = 1", [1, 2], 1),
        ("{}*where(x/beta > 1, 1, 2); beta = 1", [2e-40, 5e-40, 1], 3e-40),
        ("{}*where(1/(x*x) > 0.1, 1, 2)", [math.inf, -math.inf, 1], None),
    ],
)
def test_divisions_of_pairs_decide_rightly(text: str, numbers: list[float], beta: Any) -> None:
    """By 0, by infinity, and by what has no inverse in float32."""
    text = text.format("exp(10*(sigmoid(x) - cos(x)))")
    assert accuracy.is_hopeless(program(parse(text)).forward)
    activation = compile(text, backend="cpu")
    if beta is not None:
        with torch.no_grad():
            activation.get_parameter("beta").fill_(beta)
    x = torch.tensor(numbers, dtype=torch.float32)
    found, dx = results(activation.float(), x, torch.ones_like(x))[:2]
    exact, dx_exact = results(activation.double(), x.double(), torch.ones_like(x).double())[:2]
    torch.testing.assert_close(found.double(), exact, rtol=1e-6, atol=0, equal_nan=True)
    torch.testing.assert_close(dx.double(), dx_exact, rtol=1e-6, atol=0, equal_nan=True)


@pytest.mark.parametrize("text", ["exp(-1/x)", "exp(-max(1/x, -1))", "cos(relu(-beta/x))"])
def test_quotients_of_infinities_lack_nothing(text: str) -> None:
    x = torch.tensor([math.inf, -math.inf])
    found, dx = results(compile(text, backend="cpu"), x, torch.ones(2))[:2]
    assert found.tolist() == [1, 1]
    assert dx.tolist() == [0, 0]


def test_initial_values_may_be_large() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        compile("beta*x; beta = 1e38", backend="cpu")


def test_only_probes_that_are_lost_themselves_are_forgiven() -> None:
    """The code of 16 elements says that it is lost if one of them is."""
    x = np.zeros(48, np.float32)
    x[3] = 100

    def is_large(count: int, given: int, _found: int) -> int:
        (address,) = (ctypes.c_void_p * 1).from_address(given)
        return int(max((ctypes.c_float * count).from_address(address)) > 87)

    code = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)(is_large)

    failing = np.zeros(48, bool)
    failing[[3, 5, 20]] = True
    accuracy._forgive(failing, code, [x], 1)
    assert np.flatnonzero(failing).tolist() == [5, 20]


def test_pairs_of_infinities_ask_for_float64() -> None:
    """What an infinity lacks is no number, and a sum of such may overflow too early."""
    text = "x*sigmoid(2*softplus(x)) - x"
    x, dy = torch.full((16,), 10.0), torch.full((16,), torch.inf)
    found = single_code(text, "backward", "pairs")
    _, lost = accuracy.call(found, [dy.numpy(), x.numpy()], 1)
    assert lost


@pytest.mark.parametrize(
    ("of_pairs", "registered"),
    [
        (accuracy.Range(True, np.inf), [1.0, np.inf]),
        (accuracy.Range(True, 0.5), [1.0]),
        (accuracy.Range(False, np.inf), [1.0]),
    ],
)
def test_what_pairs_leave_to_float64_decides(
    of_pairs: accuracy.Range, registered: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled = program(parse("x*tanh(x)"))
    (number,) = kernels.load([compiled], "accurate")
    bounds: list[float] = []

    class Operator:
        def actsearch_register_single(self, *arguments: Any) -> None:
            bounds.append(arguments[3].value)

    ranges = {"f32": accuracy.Range(True, 1.0), "pairs": of_pairs}
    monkeypatch.setattr(kernels, "library", Operator)
    monkeypatch.setattr(kernels, "single_range", lambda _r, _p, kind, _code: ranges[kind])
    piece = kernels.Piece(number, compiled, "accurate", ("forward", "f32"))
    (second,) = kernels._register(piece, *kernels.compiled([piece]))
    assert second.variant == ("forward", "pairs")
    assert kernels._register(second, *kernels.compiled([second])) == []
    assert bounds == registered


MANY = 1 << 13  # elements from which on polynomials take the place of slow float32 code
MANY_MORE = 1 << 20  # the same with parameters, whatever fitting takes
HAS_PIECES = torch.backends.cpu.get_cpu_capability() == "AVX512"


def covered(text: str, routine: str, *parameters: float) -> float:
    """The share of usual numbers that polynomials are accurate for."""
    (number,) = kernels.load([program(parse(text))], "accurate")
    place = kernels.ROUTINES.index(routine)
    values = (ctypes.c_float * len(parameters))(*parameters)
    share = operator.library().actsearch_covered(
        ctypes.c_int64(number), place, ctypes.c_int64(MANY_MORE), values
    )
    return float(share) if HAS_PIECES else 1.0


@pytest.mark.parametrize("text", ["silu(x)", "mish(x)", "gelu(x)", "x*tanh(x) + 0.3", "x*atan(x)"])
def test_piecewise_polynomials(text: str) -> None:
    """Within the tolerance of float64, whatever the size of x: where there is none, too.

    They cover [-4, 4] at least, that is 0.964 of a logistic distribution.
    """
    assert covered(text, "forward") > 0.96
    assert covered(text, "backward") > 0.96
    activation = compile(text, backend="cpu")
    generator = torch.Generator().manual_seed(3)
    x = 3 * torch.randn(32 * MANY, generator=generator)
    x[40_000:80_000] *= 10.0 ** torch.randint(-38, 0, (40_000,), generator=generator)
    x[80_000:100_000] *= 10.0 ** torch.randint(-38, 6, (20_000,), generator=generator)
    x[100_000:101_024] = torch.linspace(-1e-3, 1e-3, 1024)
    x[110_000:110_004] = torch.tensor([torch.inf, -torch.inf, torch.nan, 0.0])
    x.requires_grad_()
    dy = torch.randn(32 * MANY, generator=generator)
    y = activation(x)
    (dx,) = torch.autograd.grad(y, x, dy)
    wide = x.detach().double().requires_grad_()
    exact = activation(wide)
    (slope,) = torch.autograd.grad(exact, wide, torch.ones_like(wide))
    by_code = torch.cat([activation(part) for part in x.detach().split(MANY // 2)])
    if HAS_PIECES:
        assert not torch.equal(y[:1000], by_code[:1000])
    for found, right, ulps in ((y, exact, 2.0), (dx, slope * dy.double(), 4.5)):
        assert torch.equal(found.isnan(), right.isnan())
        held = right.abs() <= torch.finfo(torch.float32).max
        sizes = right.detach().abs().clamp(min=2.0**-126)
        if found is dx:  # near a root of the slope the unit is that of its neighbours
            near_root = slope.abs() < 0.3
            sizes = torch.where(near_root & (x.abs() > 0.3), 0.3 * dy.abs().double(), sizes)
        unit = sizes.float()[held].double() * 2.0**-23
        assert ((found.double() - right).abs()[held] <= ulps * unit).all()


@pytest.mark.parametrize("at", [-1.7, 1.2345, 2.718])
@pytest.mark.parametrize("steepness", [900, 40_000])
def test_a_narrow_spike_is_not_lost_in_a_polynomial(steepness: int, at: float) -> None:
    activation = compile(f"x*tanh(x) + max(0, 1 - {steepness}*abs(x - {at}))", backend="cpu")
    x = torch.linspace(at - 1 / steepness, at + 1 / steepness, MANY)
    torch.testing.assert_close(activation(x), activation(x.double()).float(), rtol=1e-2, atol=1e-3)


def test_piecewise_polynomials_in_any_layout() -> None:
    activation = compile("mish(x)", backend="cpu")
    x = torch.randn(600, 10, 90).transpose(0, 2)
    assert torch.equal(activation(x), activation(x.contiguous()))
    odd = torch.randn(MANY + 1027)
    assert torch.equal(activation(odd)[:MANY], activation(odd[:MANY]))


@pytest.mark.skipif(not HAS_PIECES, reason="polynomials need AVX-512")
def test_what_has_piecewise_polynomials() -> None:
    """Not short code, which is faster; a kink or a step is where two pieces meet."""
    assert covered("x*x + x", "forward") == 0
    assert covered("relu(x)", "backward") == 0
    assert covered("where(x > 0.7001, erf(x), 0)", "forward") > 0.99
    assert covered("max(erf(x), beta - x)", "forward", 0.9) > 0.99
    assert covered("max(erf(x), beta - x)", "forward", 90.0) == 0  # there may be narrow features
    assert covered("erf(90*sin(40*x))", "forward") == 0  # as well
    assert covered("exp(-beta*(sigmoid(x) - 0.6)**2)", "backward", 1.1) > 0.98  # d/dbeta touches 0


@pytest.mark.parametrize(
    ("text", "parameter", "share"),
    [
        ("sigmoid(x)*max(0, beta + x**3)", 0.9999, 0.98),  # it begins to rise beside a cell's end
        ("sigmoid(x)*max(0, beta + x**3)", 1.0001, 0.98),
        ("sigmoid(x)*max(0, beta + x**3)", 0.8, 0.98),
        ("cos(x)/(beta - exp(x) + eps)", 1.1, 0.9),  # with a pole between two roots
        ("cos(x)/(log(abs(beta - exp(x)) + eps) + eps)", 0.8, 0.8),  # with a pole and a dip
        ("exp(-beta*(min(0, cos(x)) - exp(x))**2)", 1.0, 0.8),  # the right tail is very steep
    ],
)
def test_pieces_are_cut_where_their_polynomials_end(
    text: str, parameter: float, share: float
) -> None:
    """Not farther: the longest that a few checks let pass would fail the many, and be lost."""
    assert covered(text, "forward", parameter) > share


@pytest.mark.parametrize(
    "text",
    [
        "exp(-sinh(x)**2)",
        "x*exp(-x**4)",
        "exp(-beta*x**6)",
        "where(x > 0.5, erfc(4*x), 0)",
    ],
)
def test_underflow_and_steps_are_no_roots(text: str) -> None:
    """Polynomials of steep tails are accurate relative to the tails, not to what is beside them."""
    activation = compile(text, backend="cpu")
    x = torch.linspace(0.5, 3, MANY_MORE)
    y, exact = activation(x).detach().double(), activation.double()(x.double()).detach()
    counts = exact >= torch.finfo(torch.float32).tiny
    assert ((y - exact).abs() <= 3 * 2.0**-23 * exact)[counts].all()


GRADED = [
    "tanh(x)*sqrt(x)",
    "atan(x)*log(abs(x) + eps)",
    "sigmoid(x)/(x + eps)",
    "max(x*log(abs(x)), erf(x) - 0.9)",
    "beta*sqrt(abs(x)) - cos(x)*erf(x); beta = 0.8",
]


@pytest.mark.parametrize("text", GRADED)
def test_piecewise_polynomials_of_what_is_none_near_0(text: str) -> None:
    """Cells that are the narrower the nearer to 0."""
    parameters = [p.initial for p in parse(text).parameters]
    for routine in ("forward", "backward"):
        assert covered(text, routine, *parameters) > 0.95
    activation = compile(text, backend="cpu")
    generator = torch.Generator().manual_seed(13)
    x = torch.randn(MANY_MORE, generator=generator)
    x[: 1 << 18] *= 2.0 ** torch.randint(-12, 5, (1 << 18,), generator=generator)
    for k in range(-8, 6):  # next to where cells end
        ends = torch.tensor([2.0**k, 1.5 * 2.0**k])
        around = [ends, *(torch.nextafter(ends, to * ends) for to in (0.0, 2.0))]
        x[100 * (k + 9) : 100 * (k + 9) + 12] = torch.cat([torch.cat(around), -torch.cat(around)])
    x[:4] = torch.tensor([0.0, -0.0, torch.inf, torch.nan])
    dy = torch.randn(MANY_MORE, generator=generator)
    found, right = results(activation, x, dy), results(activation.double(), x.double(), dy.double())
    by_code = torch.cat([activation.float()(part) for part in x.split(MANY // 2)])
    if HAS_PIECES:
        assert not torch.equal(found[0].nan_to_num(), by_code.nan_to_num())
    scales = torch.ones_like(x).double(), dy.abs().double()
    for mine, exact, scale, ulps in zip(found[:2], right[:2], scales, (2, 4.5), strict=True):
        assert torch.equal(mine.isnan(), exact.isnan())
        size = torch.where(exact.abs() < 0.5 * scale, 0.5 * scale, exact.abs())  # near roots
        off = (mine.double() - exact).abs() / size
        assert (off[exact.isfinite()] <= ulps * 2.0**-23).all()


KINKED = [
    "x*sigmoid(beta*x); beta = 0.7",
    "max(x, beta*tanh(x)) + alpha*erf(x); beta = 1.3; alpha = 0.4",
    "max(sin(x), alpha - x)*atan(x); alpha = 0.9",
    "beta*atan(x) + (1 - beta)*cos(max(x, alpha)); beta = 0.6; alpha = -0.3",
    "tanh(x)*sqrt(max(x + alpha, 0)); alpha = 0.8",
    "where(x > alpha, tanh(beta*x), sin(x)); alpha = 0.25; beta = 1.5",
]


@pytest.mark.parametrize("text", KINKED)
@pytest.mark.parametrize("factor", [1.0, 1.17, -0.6])
def test_piecewise_polynomials_follow_the_parameters(text: str, factor: float) -> None:
    """Values, gradients and the parameters' gradients, next to those in float64."""
    activation, wide = compile(text, backend="cpu"), compile(text, backend="cpu").double()
    generator = torch.Generator().manual_seed(5)
    x = 2 * torch.randn(MANY_MORE, generator=generator)
    x[:3] = torch.tensor([0.0, -0.0, 100.0])
    dy = torch.randn(MANY_MORE, generator=generator)
    for change in (1.0, factor):  # after a call with others
        with torch.no_grad():
            for narrow, broad in zip(activation.parameters(), wide.parameters(), strict=True):
                narrow.mul_(change)
                broad.copy_(narrow)
        found, right = results(activation, x, dy), results(wide, x.double(), dy.double())
    assert torch.equal(found[0].isnan(), right[0].isnan())
    scales = torch.ones_like(x).double(), dy.abs().double()
    for mine, exact, scale in zip(found[:2], right[:2], scales, strict=True):
        off = (mine.double() - exact).abs()
        allowed = 5e-7 * (exact.abs() + 0.5 * scale)
        assert (off <= allowed)[exact.isfinite()].all()
    for mine, exact in zip(found[2:], right[2:], strict=True):
        torch.testing.assert_close(mine.double(), exact, rtol=1e-5, atol=1e-2)


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("log(abs(x)) + tanh(x)", 3.4e-4),  # beside a pole, with a root near by
        ("sqrt(abs(x)) - 2*atan(x)", 2.2e-4),
        ("atan(1/x) + erf(x)", -0.0),  # a jump at 0: two values, one for each zero
        ("atan(1/x) + erf(x)", 0.0),
        ("erf(x) + log(abs(sign(x)))", 0.0),  # infinite there, and nowhere else
    ],
)
def test_piecewise_polynomials_near_poles_and_jumps(text: str, where: float) -> None:
    activation = compile(text, backend="cpu")
    for sign in (1.0, -1.0):
        x = torch.full((MANY,), sign * where)
        for large, small in zip(
            results(activation, x, x + 1), results(activation, x[:1], x[:1] + 1), strict=True
        ):
            torch.testing.assert_close(large[:1], small, rtol=1e-6, atol=1e-6, equal_nan=True)


def test_piecewise_polynomials_tell_parameters_of_0_apart() -> None:
    activation = compile("atan(erf(x)/beta)", backend="cpu")
    x = torch.randn(MANY_MORE)
    for zero in (0.0, -0.0):
        with torch.no_grad():
            activation.get_parameter("beta").fill_(zero)
        torch.testing.assert_close(activation(x)[:100], activation(x[:100]))


def test_piecewise_polynomials_keep_what_code_makes_of_infinite_gradients() -> None:
    """0 where the function is constant."""
    activation = compile("max(0, tanh(x))", backend="cpu")
    x, dy = -torch.ones(MANY), torch.ones(MANY)
    dy[:3] = torch.tensor([torch.inf, -torch.inf, torch.nan])
    for part in (slice(None), slice(0, 16)):
        assert torch.equal(results(activation, x[part], dy[part])[1], 0 * x[part])


def results(activation: torch.nn.Module, x: torch.Tensor, dy: torch.Tensor) -> list[torch.Tensor]:
    """The value, and what the input and the parameters get."""
    leaf = x.clone().requires_grad_()
    y = activation(leaf)
    return [y.detach(), *torch.autograd.grad(y, [leaf, *activation.parameters()], dy)]


def test_piecewise_polynomials_do_not_depend_on_what_was_called_before() -> None:
    text = "max(x, beta*tanh(x)) + alpha*erf(x)"
    first, second = compile(text, backend="cpu"), compile(text, backend="cpu")
    with torch.no_grad():
        second.get_parameter("beta").fill_(0.4)
    x = torch.randn(MANY_MORE)
    y = first(x)
    second(x)
    assert torch.equal(first(x), y)
    threads = torch.get_num_threads()
    torch.set_num_threads(3 - min(threads, 2))
    try:
        second(x)
        assert torch.equal(first(x), y)
    finally:
        torch.set_num_threads(threads)


SCALED = [
    "x*sigmoid(beta*x)",
    "softplus(beta*x)/beta",
    "tanh(beta*x)",
    "x + sin(beta*x)**2/beta",
    "where(beta*x > 0.3, x, x*tanh(beta*x))",
]


@pytest.mark.parametrize("text", SCALED)
@pytest.mark.parametrize("shape", [(40, 16, 60), (3000, 16)])
def test_piecewise_polynomials_of_scaled_functions(text: str, shape: tuple[int, ...]) -> None:
    """With as many parameters as there are channels, next to float64."""
    activation = compile(f"{text}; beta = 1 per channel", backend="cpu", num_parameters=16)
    wide = compile(f"{text}; beta = 1 per channel", backend="cpu", num_parameters=16).double()
    generator = torch.Generator().manual_seed(7)
    beta = 1.5 * torch.randn(16, generator=generator)
    beta[:5] = torch.tensor([1e-3, 40.0, 1e-12, -3e4, 1.0])
    with torch.no_grad():
        for module in (activation, wide):
            module.get_parameter("beta").copy_(beta)
    x = 2 * torch.randn(shape, generator=generator)
    x[:2] *= 10.0 ** torch.randint(-38, 6, (2, *shape[1:]), generator=generator)
    x[2, :, ...] = torch.tensor([0.0, -0.0, torch.inf, -torch.inf] * 4).reshape(
        16, *[1] * (len(shape) - 2)
    )
    dy = torch.randn(shape, generator=generator)
    found, right = results(activation, x, dy), results(wide, x.double(), dy.double())
    one = results(wide, x.double(), torch.ones_like(dy).double())[1]
    by_code = torch.cat([activation(part) for part in x.split(1)])
    if HAS_PIECES:
        assert covered(text, "forward", 90.0) > 0.8  # features do not become narrower
        assert not torch.equal(found[0][3:].nan_to_num(), by_code[3:].nan_to_num())
    for mine, exact, near_root in ((found[0], right[0], 0.0), (found[1], right[1], 3e-7)):
        assert torch.equal(mine.isnan(), exact.isnan())
        held = exact.abs() <= torch.finfo(torch.float32).max
        size = exact.abs().clamp(min=2.0**-126)
        allowed = 2.5 * 2.0**-23 * size if mine is found[0] else 4.5 * 2.0**-23 * size
        allowed = allowed + near_root * torch.where(
            (one.abs() < 0.1) & (x.abs() > 0.01), dy.abs(), 0
        )
        assert ((mine.double() - exact).abs() <= allowed)[held].all()
    whole = right[2].isfinite()
    torch.testing.assert_close(found[2].double()[whole], right[2][whole], rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("beta", [0.0, 1e-30, torch.inf, torch.nan])
@pytest.mark.parametrize("text", SCALED)
def test_scaled_functions_of_parameters_beyond_the_usual(text: str, beta: float) -> None:
    activation = compile(text, backend="cpu")
    with torch.no_grad():
        activation.get_parameter("beta").fill_(beta)
    x = torch.randn(MANY)
    x[:2] = torch.tensor([torch.inf, 1e30])
    dy = torch.ones(MANY)
    for large, small in zip(
        results(activation, x, dy)[:2], results(activation, x[:64], dy[:64])[:2], strict=True
    ):
        torch.testing.assert_close(large[:64], small, equal_nan=True)


@pytest.mark.parametrize(
    ("text", "beta", "at", "dy"),
    [
        ("tanh(beta*x)/(beta*x)", 1e-3, 1e-43, 1.0),  # b*x is 0
        ("max(beta*x, 0.1*beta*x)/beta*sigmoid(beta*x)", 1e-3, 1e-34, 0.354),
        ("x*sinh(beta*x)*sigmoid(beta*x)", 1e-12, 1e-25, 3e38),
        ("exp(beta*x)*cos(beta*x)", 1e-3, 5000.0, 1e37),  # dy alone would overflow
        ("tanh(beta*x)", 1e12, 1e-11, 1e-37),  # dy alone would lose digits
    ],
)
def test_scaled_functions_at_the_ends_of_the_range(
    text: str, beta: float, at: float, dy: float
) -> None:
    activation, wide = compile(text, backend="cpu"), compile(text, backend="cpu").double()
    with torch.no_grad():
        for module in (activation, wide):
            module.get_parameter("beta").fill_(torch.tensor(beta))
    x = torch.randn(MANY).div(beta)
    x[0] = at
    weights = torch.full_like(x, dy)
    found = results(activation, x, weights)
    exact = results(wide, x[:1].double(), weights[:1].double())
    for mine, right in zip(found[:2], exact[:2], strict=True):
        torch.testing.assert_close(mine[:1].double(), right, rtol=2e-6, atol=1e-44)


def test_half_types_do_not_depend_on_the_number_of_threads() -> None:
    """Where blocks at the beginning are looked up because polynomials do not reach so far."""
    activation = compile("x*sigmoid(x)", backend="cpu")
    generator = torch.Generator().manual_seed(2)
    x, dy = torch.randn(2, 1 << 20, generator=generator).half()
    x[:2048] = 100
    slopes = []
    threads = torch.get_num_threads()
    for count in (1, 2):
        torch.set_num_threads(count)
        slopes.append(results(activation, x, dy)[1])
    torch.set_num_threads(threads)
    assert torch.equal(*slopes)


@pytest.mark.parametrize("channels", [1, 16, 48, 64, 100])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_gradients_of_channels_are_summed(channels: int, dtype: torch.dtype) -> None:
    """Whether a block of elements holds whole rows of channels or not."""
    text = "x*sigmoid(beta*x) + x; beta = 1 per channel"
    activation = compile(text, backend="cpu", num_parameters=channels).to(dtype)
    reference = compile(text, backend="torch", num_parameters=channels).double()
    x, dy = torch.randn(2, 70_000 // channels, channels).to(dtype)
    found = results(activation, x, dy)[2]
    exact = results(reference, x.double(), dy.double())[2]
    size = (x.double().square() * dy.double().abs()).sum(0)
    eps = max(torch.finfo(dtype).eps, torch.finfo(torch.float32).eps * (dtype != torch.float64))
    allowed = 3e-7 * size + eps * exact.abs()
    assert ((found.double() - exact).abs() <= allowed).all()


LOST_BESIDE_UNDEFINED = [
    ("tanh(x*x)/(x*x)/3", 1e-23),
    ("atan(x**3)/x**3/3", 1e-20),
    ("tanh(x)*sqrt(1/abs(x))", 1e-39),
    ("log1p(x*x)/(x*x)/3 + sqrt(x)", 1e-25),
]


@pytest.mark.parametrize(("text", "at"), LOST_BESIDE_UNDEFINED)
def test_what_is_lost_is_told_from_what_is_undefined(text: str, at: float) -> None:
    activation = compile(text, backend="cpu")
    x = torch.tensor([at, 0.5])
    torch.testing.assert_close(activation(x), activation.double()(x.double()).float())


@pytest.mark.parametrize("routine", ["forward", "backward"])
@pytest.mark.parametrize(
    "text", ["min(-x, sqrt(x) + 1/(x + 9))", "max(sinh(x)/x, log(x))", "abs(log(-x) - 3/(x - 7))"]
)
def test_nothing_is_lost_where_a_condition_is_undefined(text: str, routine: str) -> None:
    """Or every block of numbers of both signs would be computed in float64, too."""
    x = np.linspace(-2, 2, 256, dtype=np.float32)
    dy = [] if routine == "forward" else [np.ones_like(x)]
    _, is_lost = accuracy.call(single_code(text, routine), [*dy, x], 1)
    assert not is_lost


@pytest.mark.parametrize("text", ["exp(sqrt(x))", "sin(log(x)) + 1/(x - 2)", "tanh(sqrt(x))*x"])
def test_undefined_values_stay_undefined(text: str) -> None:
    activation = compile(text, backend="cpu")
    x = torch.tensor([-1.0, 4.0, -1e-40, torch.nan])
    assert activation(x).isnan().tolist() == [True, False, True, True]


@pytest.mark.parametrize(
    "text", ["exp(where(sqrt(x) > 1, x, -x))", "sinh(where(log(x) > 0, 1, x))"]
)
def test_conditions_on_undefined_values_do_not_hold(text: str) -> None:
    activation = compile(text, backend="cpu")
    x = torch.linspace(-3, 3, 100)
    torch.testing.assert_close(activation(x), activation.double()(x.double()).float())


def test_conditions_on_undefined_values_do_not_hold_between_the_probes() -> None:
    """The measurement at load sees x and gate on one ray, where this is defined everywhere."""
    activation = compile("exp(where(sqrt(max(-x, gate)) > 1, x, gate))", backend="cpu")
    x, gate = torch.meshgrid(torch.linspace(-3, 3, 20), torch.linspace(-2, 2, 20), indexing="ij")
    found = activation(x, gate)
    assert found.isfinite().all()
    torch.testing.assert_close(found, activation.double()(x.double(), gate.double()).float())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_piecewise_polynomials_of_half_types(dtype: torch.dtype) -> None:
    activation = compile("x*sigmoid(beta*x) + sin(x)", backend="cpu")
    x = torch.randn(MANY_MORE + 7).to(dtype)
    y, exact = activation(x), activation.double()(x.double())
    size = exact.abs().clamp(min=2.0**-14)
    assert ((y.double() - exact).abs() <= 0.51 * torch.finfo(dtype).eps * size).all()


@pytest.mark.parametrize("routine", ["forward", "backward"])
def test_what_rounding_took_passes_through_conditions(routine: str) -> None:
    """Those that guard a Gaussian with a parameter of 0, for example."""
    assert range_of("x*exp(-beta*x**2); beta = 0.5", routine).anywhere


@pytest.mark.parametrize("text", ["min(beta*x, 1)", "-max(beta*x, -x)", "min(0.3, -relu(beta*x))"])
def test_what_rounding_took_passes_through_kinks(text: str) -> None:
    """beta*x is rounded by half a unit, which is 40 of exp(beta*x) at -80."""
    assert single_range(f"exp({text}); beta = 1.3", "forward", "f32").share_outside < 1e-9


def test_what_depends_on_shared_parameters_alone_is_computed_once() -> None:
    """And asks for more digits there: exp(-beta) has none in float32 where beta is 120."""
    text = "x*sigmoid(gamma) + exp(-beta)*1e10*atan(x)"
    code = kernels.Piece(1, program(parse(text)), "accurate", ("forward", "f32")).text
    before, _, inside = code.partition("for (")
    assert "sigmoid_f32(gamma" in before
    assert "exp_f32(" in before
    assert "gamma" not in inside
    activation = compile(text, backend="cpu")
    x = torch.randn(1000)
    for beta in (1.0, 60.0, 89.0, 95.0, 120.0):
        with torch.no_grad():
            activation.get_parameter("beta").fill_(beta)
            activation.get_parameter("gamma").fill_(0.3)
        found, exact = activation.float()(x), activation.double()(x.double())
        torch.testing.assert_close(found.double(), exact, rtol=1e-6, atol=1e-44)


def test_a_shared_parameter_has_one_value() -> None:
    function = build(program(parse("x*sigmoid(gamma) + x**2")))
    with pytest.raises(ValueError, match=r"a shared parameter has one value.* shape \[4\]"):
        function(torch.randn(3, 4), torch.ones(4))


@pytest.mark.parametrize("text", ["x*t1_low + out0", "x*in0 + n", "v1*sin(t1*x)", "x*float_"])
def test_parameters_may_have_any_name(text: str) -> None:
    x = torch.randn(20)
    torch.testing.assert_close(compile(text, backend="cpu")(x), compile(text, backend="torch")(x))


def test_initial_values_belong_to_a_kernel() -> None:
    """Accuracy was measured around them."""
    texts = ["x*sin(beta*x); beta = 1", "x*sin(beta*x); beta = 1000"]
    assert len(set(kernels.load([program(parse(text)) for text in texts], "accurate"))) == 2


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    "text",
    [
        "x*sigmoid(x)",
        "gelu(x)",
        "exp(x)",
        "x - tanh(x)",
        "max(x, 0.1*x)",
        "x*atan(x)",
        "x*tanh(x) + max(0, 1 - 900*abs(x - 1.5))",
    ],
)
def test_half_types_are_correctly_rounded(text: str, dtype: torch.dtype) -> None:
    """Of all numbers of the type none is nearer to the value, which float64 tells."""
    bits = torch.arange(1 << 16, dtype=torch.int32).to(torch.int16)
    x = bits.view(dtype)[bits.view(dtype).isfinite()].requires_grad_()
    activation = compile(text, backend="cpu")
    wide = x.detach().double().requires_grad_()
    y, exact = activation(x), activation(wide)
    error = (y.double() - exact).abs()
    for direction in (-torch.inf, torch.inf):
        other = torch.nextafter(y.detach(), torch.full_like(y, direction))
        closer = (other.double() - exact).abs() < error
        assert not (closer & y.isfinite() & other.isfinite()).any()
    largest = torch.finfo(dtype).max
    assert torch.equal(
        y.isinf(), exact.abs() >= largest + (largest - nearest_below(largest, dtype)) / 2
    )
    dy = torch.randn_like(x)
    y.backward(dy)
    exact.backward(torch.ones_like(exact))
    assert wide.grad is not None
    assert x.grad is not None
    slope = dy.double() * wide.grad.float().double()
    allowed = (0.5 + 1 / 16) * torch.finfo(dtype).eps * slope.abs().clamp(min=least_normal(dtype))
    allowed += 8 * 2.0**-23 * dy.abs().double()  # beside a root
    assert ((x.grad.double() - slope).abs() <= allowed)[slope.abs() < largest].all()
    parts = zip(x.detach().split(MANY // 2), dy.split(MANY // 2), strict=True)
    alone = [results(activation, *part)[1] for part in parts]
    assert (torch.cat(alone) != x.grad).double().mean() < 0.01


def least_normal(dtype: torch.dtype) -> float:
    return float(torch.finfo(dtype).smallest_normal)


def nearest_below(value: float, dtype: torch.dtype) -> float:
    return torch.nextafter(torch.tensor(value, dtype=dtype), torch.tensor(0.0, dtype=dtype)).item()


def test_half_types_are_looked_up_in_any_layout() -> None:
    activation = compile("x*sigmoid(x)", backend="cpu")
    x = torch.randn(70, 50, 9).bfloat16()
    every = activation(x)
    for view in (lambda t: t.transpose(0, 2), lambda t: t[::3, :, 1:], lambda t: t[:0]):
        assert torch.equal(activation(view(x)), view(every))
    times = 1 + STREAMED // every.nbytes
    assert torch.equal(activation(x.repeat(times, 1, 1)), every.repeat(times, 1, 1))


def test_fast_precision_is_close() -> None:
    x = torch.linspace(-9, 9, 5000)
    for text in ("x*tanh(softplus(x))", "exp(-(erf(x) - cos(x))**2)", "asinh(x)*sinh(x)"):
        exact = torch.from_numpy(evaluate(text, {"x": x.double().numpy()})).float()
        fast = compile(text, backend="cpu", precision="fast")
        torch.testing.assert_close(fast(x), exact, rtol=1e-5, atol=1e-6)


def test_a_kernel_outlives_its_module() -> None:
    x = torch.randn(7, requires_grad=True)
    compile("x*cos(0.321*x)", backend="cpu")(x).sum().backward()
    assert x.grad is not None


# building


def test_many_activations_are_compiled_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[int] = []
    build = toolchain.build

    def counted(*arguments: Any) -> list[Path]:
        runs.append(len(arguments[1]))
        return build(*arguments)

    monkeypatch.setattr(toolchain, "build", counted)
    monkeypatch.setattr(toolchain, "cached", lambda name: None)
    texts = [f"x*sin({n}*x) - {n}" for n in range(71, 76)]
    x = torch.randn(9)
    for text, activation in zip(texts, compile_all(texts, "cpu"), strict=True):
        expected = compile(text, backend="torch")(x)
        torch.testing.assert_close(activation(x), expected, rtol=1e-5, atol=1e-5)
    assert sum(runs) == 5 * len(kernels.FIRST)
    assert len(runs) <= torch.get_num_threads()


IN_ANOTHER_PROCESS = """
import sys, torch
from actsearch.codegen import compile
from actsearch.codegen.targets.cpu import toolchain
if sys.argv[1] == "must be there":
    def build(*arguments): raise SystemExit("it was compiled again")
    toolchain.build = build
print(compile("x*sin(77.5*x)", backend="cpu")(torch.tensor([2.0])).item())
"""


def test_other_processes_find_it_and_damage_is_repaired() -> None:
    def run(*arguments: str) -> str:
        command = [sys.executable, "-c", IN_ANOTHER_PROCESS, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    first = run("anything")
    activation = program(parse("x*sin(77.5*x)"))
    (number,) = kernels.load([activation], "accurate")
    piece = kernels.Piece(number, activation, "accurate", kernels.FIRST[0])
    path = Path(*kernels.compiled([piece]))
    name = path.stem
    assert run("must be there") == first
    damaged = path.read_bytes()[:-100]
    path.unlink()
    path.write_bytes(damaged)
    assert toolchain.cached(name) is None
    assert run("anything") == first
    assert toolchain.cached(name) == path


def test_without_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """One clear warning and plain PyTorch; an error only for those who asked for the target."""

    def none(language: str = "c") -> toolchain.Compiler:
        raise BuildError("there is no C compiler; install gcc")

    monkeypatch.setattr(toolchain, "compiler", none)
    targets._warn.cache_clear()
    text = "x*sin(78.5*x)"
    with pytest.warns(RuntimeWarning, match="plain PyTorch.*no C compiler") as caught:
        activation, _ = compile(text), compile("x*sin(79.5*x)")
    assert len(caught) == 1
    assert activation.backend == "torch"
    expected = evaluate(text, {"x": 2.0}).item()
    assert activation(torch.tensor([2.0])).item() == pytest.approx(expected, rel=1e-5)
    with pytest.raises(BuildError, match="install gcc"):
        compile("x*sin(80.5*x)", backend="cpu")


def test_a_compiler_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"(?s)could not compile.*error"):
        toolchain.build(toolchain.compiler("c"), ["broken"], "int x = ;")
    assert toolchain.cached("broken") is None


def test_an_operator_that_cannot_be_built_is_tried_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes a minute, for every activation."""
    tried: list[str] = []

    def failing(compiler: object, names: list[str], *arguments: str) -> list[Path]:
        tried.extend(names)
        raise BuildError("g++ could not compile generated code: error")

    monkeypatch.setattr(toolchain, "cached", lambda name: None)
    monkeypatch.setattr(toolchain, "build", failing)
    operator._path_or_failure.cache_clear()
    try:
        for _ in range(2):
            with pytest.raises(BuildError, match="could not compile"):
                operator._path()
    finally:
        operator._path_or_failure.cache_clear()
    assert len(tried) == 1


def test_long_programs_stay_with_pytorch() -> None:
    text = " + ".join(f"sin({n}*x)" for n in range(1, 300))
    assert compile(text).backend == "torch"
    with pytest.raises(BuildError, match="operations"):
        compile(text, backend="cpu")
