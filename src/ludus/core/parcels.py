"""Modules as they travel between processes.

Equinox (0.13) remembers a module from `__new__` until `__init__` is done, and pickle calls the first alone: whatever
arrives in a process would stay there for ever, 28 kB an update in a learner. Modules are therefore unpickled as
JAX makes them of their leaves, without either.
"""

from __future__ import annotations

from typing import Any

import equinox as eqx


def travel_lightly() -> None:
    """Pickle all modules in this way, in this process."""
    eqx.Module.__reduce__ = _reduce  # type: ignore[method-assign, assignment]


def _reduce(module: eqx.Module) -> tuple[Any, ...]:
    return _made, (type(module), dict(vars(module)))


def _made(kind: type, fields: dict[str, Any]) -> Any:
    module: Any = object.__new__(kind)
    for name, value in fields.items():
        object.__setattr__(module, name, value)
    return module
