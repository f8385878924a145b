"""Spaces: what an agent may observe and do."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Discrete:
    """The actions 0, 1, …, n − 1."""

    n: int

    def __post_init__(self) -> None:
        if self.n < 1:
            raise ValueError(f"a discrete space needs at least one action, not {self.n}")


@dataclass(frozen=True)
class Box:
    """Real arrays of one shape, each entry between `low` and `high` (one bound for all entries, or one each)."""

    shape: tuple[int, ...]
    low: float | tuple[float, ...] = -math.inf
    high: float | tuple[float, ...] = math.inf

    @property
    def size(self) -> int:
        """The number of entries."""
        return math.prod(self.shape)

    @property
    def bounded(self) -> bool:
        """Whether every entry has two finite bounds, as a continuous action space needs."""
        bounds = [b if isinstance(b, tuple) else (b,) for b in (self.low, self.high)]
        return all(math.isfinite(x) for bound in bounds for x in bound)


Space = Discrete | Box


def describe(space: Space) -> str:
    """One short phrase for tables: `5 actions` or `box (2,) in [-1, 1]`."""
    if isinstance(space, Discrete):
        return f"{space.n} actions"
    bounds = f" in [{space.low:g}, {space.high:g}]" if not isinstance(space.low, tuple) and space.bounded else ""
    return f"box {space.shape}{bounds}"
