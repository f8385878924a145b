"""A named actor that keeps one object, and is begun again from the object's own memory on disk when it dies."""

from __future__ import annotations

import contextlib
import importlib
from typing import Any

from ludus.runtime.ray.cluster import NAMESPACE, connect
from ludus.runtime.ray.roles import quiet_process

TRIES = 20  # deaths in a row without anything done between them


class Keeper:
    """Makes the object that `module:function` gives, and calls its methods."""

    def __init__(self, maker: str, arguments: tuple[Any, ...]):
        quiet_process()
        module, _, function = maker.partition(":")
        self._kept = getattr(importlib.import_module(module), function)(*arguments)

    def call(self, method: str) -> Any:
        """Call a method."""
        return getattr(self._kept, method)()


class Kept:
    """The object, wherever it is."""

    def __init__(self, name: str, maker: str, arguments: tuple[Any, ...], where: Any):
        self._ray = connect(where)
        self._name, self._maker, self._arguments = name, maker, arguments
        self._handle: Any = None
        self.deaths = 0

    def _begin(self) -> Any:
        if self._handle is None:
            role = self._ray.remote(num_cpus=1, name=self._name, namespace=NAMESPACE, max_restarts=0)(Keeper)
            self._handle = role.remote(self._maker, self._arguments)
        return self._handle

    def call(self, method: str) -> Any:
        """Call a method, again where the process dies over it: what it does must be safe to begin again."""
        for _ in range(TRIES):
            try:
                return self._ray.get(self._begin().call.remote(method))
            except self._ray.exceptions.RayTaskError as error:  # raised in it; it may be a RayActorError too
                raise error.cause if isinstance(error.cause, Exception) else error from None
            except self._ray.exceptions.RayActorError:
                self.deaths += 1
                self._handle = None
        raise RuntimeError(f"'{self._name}' died {TRIES} times in a row")

    def close(self) -> None:
        """End it."""
        if self._handle is not None:
            with contextlib.suppress(Exception):
                self._ray.kill(self._handle)
            self._handle = None
