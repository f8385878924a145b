"""What solving a game gives, and what a method is told."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ludus.core.errors import UsageError
from ludus.storage.arrays import flatten, write_arrays
from ludus.storage.files import write_atomically


@dataclass
class Point:
    """One moment of convergence."""

    iteration: int
    seconds: float
    nash_conv: float


@dataclass
class Solution:
    """What a method found. `exploitability` is NashConv / players; times are without compilation."""

    game: str
    method: str
    value: list[float]  # expected return of each player
    nash_conv: float | None
    exploitability: float | None
    iterations: int
    seconds: float
    compile_seconds: float
    strategy: Any  # trees: [infoset, action]; matrices: mixtures, or joint probabilities; stochastic: [state, action]
    curve: list[Point] = field(default_factory=list)
    extra: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, without the strategy."""
        return {
            "game": self.game,
            "method": self.method,
            "value": self.value,
            "nash_conv": self.nash_conv,
            "exploitability": self.exploitability,
            "iterations": self.iterations,
            "seconds": self.seconds,
            "iterations_per_second": self.iterations / self.seconds if self.seconds > 0 else None,
            "compile_seconds": self.compile_seconds,
            **self.extra,
        }

    def save(self, directory: Path) -> None:
        """`strategy.safetensors`, `result.json`, and `convergence.png` where there is a curve to draw."""
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"cannot make the directory {directory}: {error.strerror}") from error
        write_arrays(
            directory / "strategy.safetensors",
            flatten(self.strategy),
            {"kind": "strategy", "game": self.game, "method": self.method},
        )
        curve = [vars(point) for point in self.curve]
        write_atomically(directory / "result.json", json.dumps({**self.to_dict(), "curve": curve}, indent=1).encode())
        if len(self.curve) > 1:
            _draw(self, directory / "convergence.png")


Watch = Callable[[Point], None]


@dataclass(frozen=True)
class Ask:
    """What a method is told."""

    iterations: int
    target: float | None  # exploitability
    seed: int
    temperature: float | None
    watch: Watch


def solution(
    game: str,
    method: str,
    value: Any,
    gap: float | None,
    iterations: int,
    seconds: float,
    compiled: float,
    strategy: Any,
    curve: list[Point] | None = None,
) -> Solution:
    """The solution of these parts, with the NashConv per player."""
    values = [float(v) for v in np.asarray(value)]
    gap = None if gap is None else max(float(gap), 0.0)
    exploitability = None if gap is None else gap / len(values)
    return Solution(game, method, values, gap, exploitability, iterations, seconds, compiled, strategy, curve or [])


def _draw(solution: Solution, path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure((6, 4))
    axes = figure.subplots()
    players = len(solution.value)
    points = [p for p in solution.curve if p.nash_conv > 0]
    axes.loglog([p.iteration for p in points], [p.nash_conv / players for p in points], marker=".")
    axes.set_xlabel("iterations")
    axes.set_ylabel("exploitability (NashConv / players)")
    axes.set_title(f"{solution.method} on {solution.game}")
    axes.grid(alpha=0.3, which="both")
    figure.tight_layout()
    figure.savefig(path, dpi=120)
