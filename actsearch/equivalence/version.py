"""What proofs depend on: another version of it may have proved what does not hold."""

from __future__ import annotations

import hashlib
import platform
from functools import cache
from importlib import metadata, resources

_DIGEST = 16
_PACKAGES = ("actsearch.equivalence", "actsearch.grammar")
_LIBRARIES = ("python-flint", "numpy", "scipy")


@cache
def version() -> str:
    """A digest of the code of the proofs and of the language, and of the libraries under them."""
    digest = hashlib.blake2b(platform.python_version().encode(), digest_size=_DIGEST)
    for name in _LIBRARIES:
        digest.update(f"\0{name} {metadata.version(name)}".encode())
    for package in _PACKAGES:
        files = {file.name: file for file in resources.files(package).iterdir() if file.is_file()}
        for name in sorted(files):
            if name.endswith((".py", ".lark")):
                content = hashlib.blake2b(files[name].read_bytes()).digest()
                digest.update(f"\0{name}\0".encode() + content)
    return digest.hexdigest()
