"""`import pytorch_lightning as pl` means the same classes as `import lightning as L` in a job.

The two packages hold the same code twice, and a trainer of the one refuses models of the other.
"""

from __future__ import annotations

import importlib
import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

_SAME = {"pytorch_lightning": "lightning.pytorch", "lightning_fabric": "lightning.fabric"}


def unify() -> None:
    """Let the names of the stand-alone packages stand for the parts of `lightning`, from now on."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder(MetaPathFinder):
    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        first, _, rest = fullname.partition(".")
        if first not in _SAME:
            return None
        return ModuleSpec(fullname, _Same(f"{_SAME[first]}.{rest}" if rest else _SAME[first]), is_package=True)


class _Same(Loader):
    def __init__(self, name: str) -> None:
        self._name = name

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        found = importlib.import_module(self._name)
        self._spec = found.__spec__
        return found

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self._spec  # it has been executed under its own name, which it keeps
