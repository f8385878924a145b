"""A named actor that keeps one object, and is begun again from the object's own memory on disk when it dies."""

from __future__ import annotations

import contextlib
import functools
import importlib
from typing import Any

from ludus.runtime.ray.cluster import NAMESPACE, connect, teller
from ludus.runtime.ray.roles import quiet_process

TRIES = 20  # deaths in a row without anything done between them


class Keeper:
    """Makes the object that `module:function` gives when it is first asked for something, and calls its methods."""

    def __init__(self, maker: str, arguments: tuple[Any, ...]):
        quiet_process()
        module, _, function = maker.partition(":")
        self._make = functools.partial(getattr(importlib.import_module(module), function), *arguments)
        self._kept: Any = None

    def call(self, method: str) -> Any:
        """Call a method."""
        if self._kept is None:
            self._kept = self._make()
        return getattr(self._kept, method)()


class Kept:
    """The object, wherever it is. Beside its process another waits that has imported all it needs to go on with it."""

    def __init__(self, name: str, maker: str, arguments: tuple[Any, ...], where: Any):
        self._ray = connect(where)
        self._status = teller(self._ray)  # so that it outlives whoever tells it something
        self._name, self._maker, self._arguments = name, maker, arguments
        self._handle: Any = None
        self._spare: Any = None
        self._made = 0
        self.deaths = 0

    def _new(self) -> Any:
        self._made += 1
        name = self._name if self._made == 1 else f"{self._name}.{self._made}"
        role = self._ray.remote(num_cpus=1, name=name, namespace=NAMESPACE, max_restarts=0)(Keeper)
        return role.remote(self._maker, self._arguments)

    def call(self, method: str) -> Any:
        """Call a method, again where the process dies over it: what it does must be safe to begin again."""
        for _ in range(TRIES):
            if self._handle is None:
                self._handle, self._spare = self._spare or self._new(), None
            try:
                found = self._ray.get(self._handle.call.remote(method))
            except self._ray.exceptions.RayTaskError as error:  # raised in it; it may be a RayActorError too
                raise error.cause if isinstance(error.cause, Exception) else error from None
            except self._ray.exceptions.RayActorError:
                self.deaths += 1
                self._handle = None
            else:
                self._spare = self._spare or self._new()
                return found
        raise RuntimeError(f"'{self._name}' died {TRIES} times in a row")

    def close(self) -> None:
        """End it."""
        for handle in filter(None, (self._handle, self._spare)):
            with contextlib.suppress(Exception):
                self._ray.kill(handle)
        self._handle = self._spare = None
