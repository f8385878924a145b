"""Gymnasium's spaces as Ludus's: what is seen becomes real arrays, what is done one number or one real array."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from ludus.core.errors import UsageError
from ludus.core.spaces import Box, Discrete, Space

MOST_COMBINATIONS = 4096  # actions that a product of discrete ones may have


@dataclass(frozen=True)
class Sight:
    """How observations of one space are read."""

    space: Box
    read: Callable[[Any], np.ndarray]  # to float32 of `space.shape`
    mask: str | None = None  # the entry of a dictionary that says what is legal


@dataclass(frozen=True)
class Deed:
    """How actions of one space are written."""

    space: Space
    write: Callable[[np.ndarray], Any]


def _bounds(x: np.ndarray) -> float | tuple[float, ...]:
    values = np.unique(x)
    return float(values[0]) if len(values) == 1 else tuple(float(v) for v in x.reshape(-1))


def sight(space: gymnasium.Space) -> Sight:
    """Boxes as they are (pictures of bytes from 0 to 1), all else one-hot and flat.

    A dictionary of `observation` and `action_mask` is the observation, with a mask beside it.
    """
    if isinstance(space, spaces.Dict) and set(space.spaces) == {"observation", "action_mask"}:
        own = sight(space["observation"])
        return Sight(own.space, lambda x: own.read(x["observation"]), "action_mask")
    if isinstance(space, spaces.Box):
        shape = space.shape or (1,)
        if space.dtype == np.uint8:
            return Sight(Box(shape, 0.0, 1.0), lambda x: np.asarray(x, np.float32).reshape(shape) / np.float32(255))
        found = Box(shape, _bounds(space.low), _bounds(space.high))
        return Sight(found, lambda x: np.asarray(x, np.float32).reshape(shape))
    width = spaces.flatdim(space)
    return Sight(Box((width,)), lambda x: np.asarray(spaces.flatten(space, x), np.float32))


def deed(space: gymnasium.Space) -> Deed:
    """Discrete and real actions; several discrete ones are one, over all combinations.

    Raises `UsageError` for actions of any other kind.
    """
    if isinstance(space, spaces.Discrete):
        start = int(space.start)
        return Deed(Discrete(int(space.n)), lambda x: int(x) + start)
    if isinstance(space, spaces.Box):
        low, high, kind, shape = space.low, space.high, space.dtype, space.shape
        box = Box((int(np.prod(shape)),), _bounds(low), _bounds(high))
        return Deed(box, lambda x: np.clip(np.reshape(x, shape), low, high).astype(kind))
    if isinstance(space, spaces.MultiDiscrete | spaces.MultiBinary):
        counts = space.nvec if isinstance(space, spaces.MultiDiscrete) else np.full(space.shape, 2)
        if np.prod(counts.astype(float)) <= MOST_COMBINATIONS:
            table = np.array(list(itertools.product(*(range(n) for n in counts.reshape(-1)))), space.dtype)
            return Deed(Discrete(len(table)), lambda x: table[int(x)].reshape(counts.shape))
        raise UsageError(f"actions {space} are more than {MOST_COMBINATIONS} combinations; no algorithm here fits")
    raise UsageError(f"actions {space} are neither discrete nor real numbers; no algorithm here fits")


def legal_from(mask: Any, count: int) -> np.ndarray:
    """A mask of what is legal, as booleans. Raises `ValueError` for another length."""
    found = np.asarray(mask).astype(bool).reshape(-1)
    if found.shape != (count,):
        raise ValueError(f"an action mask has {found.size} entries for {count} actions")
    return found
