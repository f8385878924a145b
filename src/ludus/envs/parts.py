"""Part of another package, without all else that the package imports."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from types import ModuleType


def import_part(name: str) -> ModuleType:
    """The module of this name, without running the `__init__` of packages above it.

    JaxMARL and gymnax import all their games there, and what draws them: two to four seconds in every process that
    needs one of these games. Whoever imports the whole package later gets it, with this very module in it. Where the
    module needs the package whole, that is imported.
    """
    if name in sys.modules:
        return sys.modules[name]
    parts = name.split(".")
    hollow: list[str] = []
    try:
        for package in (".".join(parts[:k]) for k in range(1, len(parts))):
            if package in sys.modules:
                continue
            spec = importlib.util.find_spec(package)
            if spec is None:
                break
            sys.modules[package] = importlib.util.module_from_spec(spec)
            hollow.append(package)
        return importlib.import_module(name)
    except (ImportError, AttributeError):  # it looks for something in a package above it
        pass
    finally:
        for package in hollow:
            del sys.modules[package]
    return importlib.import_module(name)
