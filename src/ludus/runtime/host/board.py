"""The board: what environments and the process that decides for them write for each other, in shared memory."""

from __future__ import annotations

import ctypes
import math
from typing import Any

import numpy as np

from ludus.core.host import HostStep
from ludus.core.spaces import Discrete
from ludus.core.spec import GameSpec

FINE, BROKE, USELESS = 0, 1, 2  # faults of a step: an exception; values that nobody can learn from
_ALIGNED = 64


class Board:
    """Arrays of all environments, one row each.

    `now` is the moment to act on; `end` the last one of the episode that ended with this step, if one did. `life`
    counts an environment's episodes from 1, and no two are the same. One that is `asleep` plays no more.
    """

    def __init__(self, spec: GameSpec, envs: int, memory: Any = None):
        self.spec, self.envs = spec, envs
        layout, size = _layout(spec, envs)
        self.size = size
        buffer = bytearray(size) if memory is None else memory
        self._arrays = {
            name: np.frombuffer(buffer, kind, math.prod(shape), offset).reshape(shape)
            for name, (offset, shape, kind) in layout.items()
        }
        group = lambda kind: {g.name: self._arrays[key] for g in spec.groups if (key := f"{kind}/{g.name}") in layout}
        moment = lambda bank: (
            {field: group(f"{bank}/{field}") for field in ("observation", "legal", "acting", "seat")}
            | ({"state": self._arrays[f"{bank}/state"]} if spec.state is not None else {"state": None})
        )
        self.now: dict[str, Any] = moment("now")
        self.end: dict[str, Any] = moment("end")
        self.reward = group("reward")
        self.action = group("action")
        self.terminated, self.truncated, self.fault, self.life, self.asleep = (
            self._arrays[name] for name in ("terminated", "truncated", "fault", "life", "asleep")
        )

    def show(self, env: int, step: HostStep, *, last: bool) -> None:
        """Write a moment as the present one, or as the last of its episode."""
        bank = self.end if last else self.now
        for field in ("observation", "legal", "acting", "seat"):
            for name, x in getattr(step, field).items():
                bank[field][name][env] = x
        if step.state is not None:
            bank["state"][env] = step.state


def allocate(context: Any, spec: GameSpec, envs: int) -> Any:
    """Shared memory for a board, to be handed to processes; it vanishes with the last that holds it."""
    return context.RawArray(ctypes.c_uint8, Board(spec, envs).size)


def _layout(spec: GameSpec, envs: int) -> tuple[dict[str, tuple[int, tuple[int, ...], Any]], int]:
    fields: dict[str, tuple[tuple[int, ...], Any]] = {}
    for g in spec.groups:
        for bank in ("now", "end"):
            fields[f"{bank}/observation/{g.name}"] = ((g.slots, *g.observation.shape), np.float32)
            fields[f"{bank}/acting/{g.name}"] = ((g.size,), np.bool_)
            if g.masked and isinstance(g.action, Discrete):
                fields[f"{bank}/legal/{g.name}"] = ((g.slots, g.action.n), np.bool_)
            if g.slots < g.size:
                fields[f"{bank}/seat/{g.name}"] = ((g.slots,), np.int32)
        fields[f"reward/{g.name}"] = ((g.size,), np.float32)
        discrete = isinstance(g.action, Discrete)
        shape = (g.slots,) if isinstance(g.action, Discrete) else (g.slots, *g.action.shape)
        fields[f"action/{g.name}"] = (shape, np.int32 if discrete else np.float32)
    if spec.state is not None:
        fields["now/state"] = fields["end/state"] = (spec.state.shape, np.float32)
    fields |= dict.fromkeys(("terminated", "truncated", "asleep"), ((), np.bool_))
    fields |= {"fault": ((), np.uint8), "life": ((), np.int64)}
    layout, offset = {}, 0
    for name, (shape, kind) in fields.items():
        whole = (envs, *shape)
        layout[name] = (offset, whole, kind)
        offset += -(-math.prod(whole) * np.dtype(kind).itemsize // _ALIGNED) * _ALIGNED
    return layout, offset
