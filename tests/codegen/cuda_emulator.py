"""CUDA kernels on the CPU: the generated source as C++, a block as threads with a barrier."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import pytest
import torch

from actsearch.codegen.targets.cpu import toolchain
from actsearch.codegen.targets.cuda import operator
from actsearch.codegen.targets.cuda.driver import Driver

SHIM = """
#include <barrier>
#include <cstring>
#include <immintrin.h>
#include <thread>
#include <utility>
#include <vector>
#define __device__
#define __global__
#define __forceinline__ inline
#define __launch_bounds__(n)
#define __align__(n) alignas(n)
#define __shared__ static
#define THREADS 32
struct Index { unsigned x; };
static thread_local Index threadIdx, blockIdx;
static std::barrier<> *everyone;
#define __syncthreads() everyone->arrive_and_wait()
static float __uint_as_float(unsigned i) { float f; std::memcpy(&f, &i, 4); return f; }
static unsigned __float_as_uint(float f) { unsigned i; std::memcpy(&i, &f, 4); return i; }
static float half_to_float(unsigned short h) { return _cvtsh_ss(h); }
static unsigned short float_to_half(float f) { return _cvtss_sh(f, 0); }
"""
RUN = """
template <typename... A, std::size_t... I>
static void call(void (*f)(A...), void **a, std::index_sequence<I...>) {
    f(*static_cast<std::remove_const_t<A> *>(a[I])...);
}
template <typename... A> static void run(void (*f)(A...), unsigned blocks, void **a) {
    std::barrier<> barrier(THREADS);
    everyone = &barrier;
    std::vector<std::thread> threads;
    for (unsigned t = 0; t < THREADS; ++t)
        threads.emplace_back([=] {
            threadIdx.x = t;
            for (unsigned b = 0; b < blocks; ++b) {
                blockIdx.x = b;
                call(f, a, std::index_sequence_for<A...>());
                everyone->arrive_and_wait();
            }
        });
    for (auto &thread : threads) thread.join();
}
"""
FLAGS = (
    *("-std=c++20", "-O1", "-fPIC", "-shared", "-pthread", "-w", "-ffp-contract=off"),
    *("-mfma", "-mf16c", "-fno-math-errno"),
)


@cache
def built(source: str, flags: tuple[str, ...]) -> Any:
    """The library of some C++."""
    compiler = toolchain.compiler("c++")
    name = f"test-{toolchain.key(compiler, source, *FLAGS, *flags)}"
    arguments = (compiler, [name], source, *FLAGS, *flags)
    return ctypes.CDLL(str(toolchain.cached(name) or toolchain.build(*arguments)[0]))


class Emulator(Driver):
    """Runs kernels on tensors of the CPU."""

    device_type = "cpu"
    threads = 32

    def __init__(self) -> None:
        self.launched: list[str] = []

    def launch(
        self,
        source: str,
        flags: tuple[str, ...],
        kernel: str,
        blocks: int,
        arguments: Sequence[Any],
        device: torch.device,
    ) -> None:
        self.launched.append(kernel)
        entry = f'extern "C" void entry(unsigned n, void **a) {{ run(&{kernel}, n, a); }}\n'
        library = built(SHIM + source + RUN + entry, flags)
        pointers = [ctypes.cast(ctypes.byref(a), ctypes.c_void_p) for a in arguments]
        library.entry(ctypes.c_uint(blocks), (ctypes.c_void_p * len(pointers))(*pointers))


@contextmanager
def emulated(monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    """The operators over tensors of the CPU, with kernels run by threads."""
    emulator = Emulator()
    monkeypatch.setattr(operator, "DRIVER", emulator)
    library = torch.library.Library("actsearch_cuda", "IMPL")
    library.impl("activation", operator.forward, "CPU")
    library.impl("activation_backward", operator.backward, "CPU")
    library.impl("population", operator.population_forward, "CPU")
    library.impl("population_backward", operator.population_backward, "CPU")
    yield emulator
    library._destroy()
