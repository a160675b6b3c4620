"""CUDA's driver API, through ctypes: loading machine code, and launching it on torch's stream."""

from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch

from actsearch.codegen.targets import BuildError
from actsearch.codegen.targets.cuda import nvrtc

_LOCK = threading.RLock()
_LOADED: dict[tuple[str, int, str, tuple[str, ...]], ctypes.c_void_p] = {}


class Driver:
    """Runs kernels on a CUDA device; a test has another that runs them on the CPU.

    Attributes:
        device_type: of the tensors that it takes.
        threads: of a block.
    """

    device_type = "cuda"
    threads = 256

    def launch(
        self,
        source: str,
        flags: tuple[str, ...],
        kernel: str,
        blocks: int,
        arguments: Sequence[Any],
        device: torch.device,
    ) -> None:
        """Run an instance of a kernel's template, compiled if it is new, on the current stream."""
        with torch.cuda.device(device):
            function = self._function(source, flags, kernel, torch.cuda.current_device())
            pointers = [ctypes.cast(ctypes.byref(a), ctypes.c_void_p) for a in arguments]
            packed = (ctypes.c_void_p * len(pointers))(*pointers)
            stream = ctypes.c_void_p(torch.cuda.current_stream().cuda_stream)
            done = _cuda().cuLaunchKernel(
                function, blocks, 1, 1, self.threads, 1, 1, 0, stream, packed, None
            )
            _check(done)

    def _function(
        self, source: str, flags: tuple[str, ...], kernel: str, device: int
    ) -> ctypes.c_void_p:
        place = kernel, device, source, flags
        with _LOCK:
            if place not in _LOADED:
                major, minor = torch.cuda.get_device_capability(device)
                code, names = nvrtc.compile(source, 10 * major + minor, [kernel], *flags)
                torch.cuda.current_stream()  # the device's context is there from here on
                module, function = ctypes.c_void_p(), ctypes.c_void_p()
                _check(_cuda().cuModuleLoadData(ctypes.byref(module), code))
                name = names[kernel].encode()
                _check(_cuda().cuModuleGetFunction(ctypes.byref(function), module, name))
                _LOADED[place] = function
            return _LOADED[place]


@cache
def _cuda() -> Any:
    name = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        return ctypes.CDLL(name)
    except OSError as error:
        raise BuildError(f"there is no CUDA driver: {error}") from None


def _check(result: int) -> None:
    if result:
        text = ctypes.c_char_p()
        _cuda().cuGetErrorString(result, ctypes.byref(text))
        said = (text.value or b"an unknown error").decode()
        raise RuntimeError(f"CUDA error {result} in a generated kernel: {said}")
