"""Code versions: a hash of the code that computes a table, so that a change of it shows by itself."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path
from types import ModuleType


@functools.cache
def code_version(*modules: ModuleType | str) -> str:
    """The first 16 hex digits of the SHA-256 of these modules' code, and of plain texts such as settings.

    A package stands for all its modules. Blank lines and lines that are all comment do not count, so that a remark can
    be mended without rebuilding a store.
    """
    digest = hashlib.sha256()
    for module in modules:
        if isinstance(module, str):
            digest.update(f"text\0{module}\0".encode())
            continue
        for path in _files(module):
            lines = path.read_text(encoding="utf-8").splitlines()
            code = "\n".join(line.rstrip() for line in lines if line.strip() and not line.lstrip().startswith("#"))
            digest.update(f"{path.stem}\0{code}\0".encode())
    return digest.hexdigest()[:16]


def _files(module: ModuleType) -> list[Path]:
    assert module.__file__ is not None
    path = Path(module.__file__)
    return sorted(path.parent.rglob("*.py")) if path.name == "__init__.py" else [path]
