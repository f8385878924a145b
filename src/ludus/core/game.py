"""What a game is: its specification, what it shows at one moment, and the protocol that steps it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, runtime_checkable

import equinox as eqx
from jaxtyping import Array, Bool, Float, Int, Key, Shaped

from ludus.core.errors import UsageError
from ludus.core.spaces import Box, Space

RewardKind = Literal["common", "zero-sum", "general-sum"]
TurnKind = Literal["simultaneous", "sequential"]


@dataclass(frozen=True)
class GroupSpec:
    """Agents of one team that share their spaces; their arrays carry them on one axis.

    In a sequential game one agent of a group moves at a time. Its group then has a single *slot*: observations,
    masks and actions carry one row, the mover's, and `TimeStep.seat` says whose it is. Otherwise every agent has
    its own row and `slots == size`.
    """

    name: str
    size: int
    observation: Box
    action: Space
    team: str
    slots: int
    masked: bool = False  # whether legal-action masks come with the observations
    rivals: bool = False  # whether every agent is a team of its own: the seats of a symmetric game
    one_hot: bool = False  # whether an observation is a one-hot of all that its agent knows, so that tables serve

    @property
    def teams(self) -> tuple[str, ...]:
        """The teams its agents belong to."""
        return tuple(f"{self.team}_{i}" for i in range(self.size)) if self.rivals else (self.team,)


@dataclass(frozen=True)
class GameSpec:
    """Everything about a game that is known before it is played."""

    name: str
    groups: tuple[GroupSpec, ...]
    reward: RewardKind
    turns: TurnKind = "simultaneous"
    state: Box | None = None  # the global state for centralised critics, where the game has one
    symmetric: bool = False  # whether all agents may be exchanged, so that one learner may take every seat
    horizon: int | None = None  # the most steps an episode takes, where known
    truncates: bool = False  # whether episodes may end by a time limit, which is not a terminal state
    win_return: float | None = None  # an agent's episode is won if its return exceeds this, where winning is defined

    def __post_init__(self) -> None:
        names = [group.name for group in self.groups]
        if len(set(names)) != len(names):
            raise ValueError(f"group names of {self.name} repeat: {names}")
        if not self.groups:
            raise UsageError(f"{self.name} has no agents like this; it needs at least 1")
        for group in self.groups:
            if group.size < 1:
                raise UsageError(f"{self.name} has {group.size} agents in group '{group.name}'; it needs at least 1")
        if self.horizon is not None and self.horizon < 1:
            raise UsageError(f"episodes of {self.name} take {self.horizon} steps; they need at least 1")

    @property
    def teams(self) -> tuple[str, ...]:
        """The players in the game-theoretic sense, in order of first appearance."""
        return tuple(dict.fromkeys(team for group in self.groups for team in group.teams))

    @property
    def num_agents(self) -> int:
        """The number of agents over all groups."""
        return sum(group.size for group in self.groups)

    def group(self, name: str) -> GroupSpec:
        """The group of that name."""
        return next(group for group in self.groups if group.name == name)

    def restrict(self, names: tuple[str, ...]) -> GameSpec:
        """The same game as seen by a learner that controls only these groups."""
        return replace(self, groups=tuple(group for group in self.groups if group.name in names))


class TimeStep(eqx.Module):
    """What a game shows at one moment. Dictionaries are keyed by group; slots and agents as in `GroupSpec`.

    A game gives one moment; the runtime stacks many, so axes may lead.
    """

    observation: dict[str, Shaped[Array, "*lead_slot_and_observation"]]
    legal: dict[str, Bool[Array, "*lead slot action"]]  # only groups with `masked`
    acting: dict[str, Bool[Array, "*lead agent"]]  # who moves now; a dead or waiting agent does not
    reward: dict[str, Float[Array, "*lead agent"]]  # for the step that led here
    terminated: Bool[Array, "*lead"]
    truncated: Bool[Array, "*lead"]
    state: Shaped[Array, "*lead_and_state"] | None = None
    seat: dict[str, Int[Array, "*lead slot"]] = eqx.field(default_factory=dict)  # only groups with slots < size

    @property
    def done(self) -> Bool[Array, "*lead"]:
        """Whether the episode ended here, by either cause."""
        return self.terminated | self.truncated


@runtime_checkable
class Environment(Protocol):
    """A partially observable stochastic game as two pure functions on arrays.

    `step` neither resets by itself nor hides the last observation: auto-reset is the runtime's. Actions are one
    array per group, `[slot]` integers or `[slot, ...]` reals; reals outside their bounds are clipped.
    """

    spec: GameSpec

    def reset(self, key: Key[Array, ""]) -> tuple[Any, TimeStep]:
        """Begin an episode."""
        ...

    def step(self, key: Key[Array, ""], state: Any, actions: dict[str, Array]) -> tuple[Any, TimeStep]:
        """Play one step."""
        ...
