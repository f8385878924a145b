"""Games that no compiler sees: the same stochastic games as `ludus.core.game`, stepped in Python on NumPy arrays."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ludus.core.spec import GameSpec


class EnvironmentFault(Exception):
    """An environment broke its own rules, or an exception of its own: its episode is worth nothing."""


@dataclass
class HostStep:
    """What one game shows at one moment: the twin of `TimeStep` in NumPy, with its axes."""

    observation: dict[str, np.ndarray]  # [slot, ...]
    legal: dict[str, np.ndarray]  # [slot, action], only groups with `masked`
    acting: dict[str, np.ndarray]  # [agent]
    reward: dict[str, np.ndarray]  # [agent], for the step that led here
    terminated: bool = False
    truncated: bool = False
    state: np.ndarray | None = None
    seat: dict[str, np.ndarray] = field(default_factory=dict)  # [slot], only groups with slots < size

    @property
    def done(self) -> bool:
        """Whether the episode ended here, by either cause."""
        return self.terminated or self.truncated


class HostEnvironment:
    """Base of games that run on the host. `step` neither resets by itself nor hides the last observation.

    A game that breaks raises whatever it likes: the runtime counts the fault and begins a new life of it.
    """

    spec: GameSpec
    origin: tuple[str, dict[str, Any]] | None = None  # the name and options from which any process makes it again

    def reset(self, seed: int) -> HostStep:
        """Begin an episode; the same seed begins the same one."""
        raise NotImplementedError

    def step(self, actions: dict[str, np.ndarray]) -> HostStep:
        """Play one step. Actions are one array per group: `[slot]` integers or `[slot, ...]` reals within bounds."""
        raise NotImplementedError

    def render(self) -> np.ndarray | None:
        """A picture `[height, width, 3]` of this moment, where the game can draw."""
        return None

    def close(self) -> None:
        """Give back what the game holds."""


def blank(spec: GameSpec) -> HostStep:
    """A moment with nothing in it, of a game's shapes: every action legal, nobody acting."""
    return HostStep(
        observation={g.name: np.zeros((g.slots, *g.observation.shape), np.float32) for g in spec.groups},
        legal={g.name: np.ones((g.slots, int(getattr(g.action, "n", 0))), bool) for g in spec.groups if g.masked},
        acting={g.name: np.zeros(g.size, bool) for g in spec.groups},
        reward={g.name: np.zeros(g.size, np.float32) for g in spec.groups},
        state=None if spec.state is None else np.zeros(spec.state.shape, np.float32),
        seat={g.name: np.zeros(g.slots, np.int32) for g in spec.groups if g.slots < g.size},
    )


def problem_with(spec: GameSpec, step: HostStep) -> str | None:
    """What in a moment no learner could use, in plain words; None if nothing."""
    for group in spec.groups:
        named: list[tuple[str, Any]] = [("observation", step.observation[group.name])]
        named.append(("reward", step.reward[group.name]))
        for name, array in named:
            if not np.isfinite(array).all():
                return f"a {name} of group '{group.name}' is not finite"
        if group.masked and not step.done:
            rows = step.acting[group.name]
            if group.slots < group.size:
                rows = rows[step.seat[group.name]]
            if (rows & ~step.legal[group.name].any(-1)).any():
                return f"an agent of group '{group.name}' has to act and has no legal action"
    if step.state is not None and not np.isfinite(step.state).all():
        return "the global state is not finite"
    return None
