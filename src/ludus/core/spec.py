"""What is known of a game before it is played. Nothing here needs JAX: processes that step games do without it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

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
