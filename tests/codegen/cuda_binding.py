"""The binding of an exported .cu file, built for the CPU: CUDA's runtime stands in for itself."""

from __future__ import annotations

import sysconfig
from importlib.machinery import ExtensionFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from typing import Any

import torch

from actsearch.codegen.targets.cpu import toolchain
from tests.codegen.cuda_emulator import FLAGS, RUN, SHIM

HEADERS = {
    "c10/cuda/CUDAStream.h": """
namespace c10::cuda { inline int getCurrentCUDAStream() { return 0; } }
""",
    "cuda_runtime.h": """
struct dim3 { unsigned x; dim3(unsigned n) : x(n) {} };
enum { cudaSuccess = 0 };
static const char *cudaGetErrorString(int) { return "no such kernel"; }
int cudaLaunchKernel(const void *, dim3, dim3, void **, int, int);
""",
}
LAUNCH = """
template <typename... A> static bool is(void (*f)(A...), const void *k, dim3 n, void **a) {
    if ((const void *)f != k) return false;
    run(f, n.x, a);
    return true;
}
#define BOTH(K, T, W) is(&K<T, W, true>, k, n, a) || is(&K<T, W, false>, k, n, a)
#define EVERY(T, W) BOTH(forward_kernel, T, W) || BOTH(backward_kernel, T, W)
int cudaLaunchKernel(const void *k, dim3 n, dim3, void **a, int, int) {
    return !(EVERY(float, 4) || EVERY(float, 1) || EVERY(double, 2) || EVERY(double, 1)
        || EVERY(half16, 8) || EVERY(half16, 1) || EVERY(brain16, 8) || EVERY(brain16, 1));
}
"""


def bound(source: str, folder: Path) -> Any:
    """The extension module of an exported file, over tensors of the CPU."""
    for name, text in HEADERS.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#pragma once\n{text}")
    compiler = toolchain.compiler("c++")
    root = Path(torch.__file__).parent
    include = root / "include"
    name = "bound_activation"
    flags = [
        f"-DTORCH_EXTENSION_NAME={name}", "-DDEVICE_TYPE=at::kCPU", f"-I{include}",
        f"-I{include / 'torch' / 'csrc' / 'api' / 'include'}",
        f"-I{sysconfig.get_paths()['include']}", f"-L{root / 'lib'}",
        f"-D_GLIBCXX_USE_CXX11_ABI={int(torch.compiled_with_cxx11_abi())}",
        "-ltorch", "-ltorch_cpu", "-lc10", "-ltorch_python",
        "-O0",  # of torch's headers there is much more than of the kernels
    ]  # fmt: skip
    text = f"#include <ATen/ATen.h>\n{SHIM}{source}{RUN}{LAUNCH}"
    key = f"binding-{toolchain.key(compiler, text, *FLAGS, *flags, torch.__version__)}"
    arguments = [*FLAGS, f"-I{folder}", *flags]
    path = toolchain.cached(key) or toolchain.build(compiler, [key], text, *arguments)[0]
    loader = ExtensionFileLoader(name, str(path))
    spec = spec_from_loader(name, loader)
    assert spec is not None
    module = module_from_spec(spec)
    loader.exec_module(module)
    return module
