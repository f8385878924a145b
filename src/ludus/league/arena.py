"""What a league needs of a game: how policies come about, and what they earn."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from jaxtyping import Float

from ludus.core.spec import GameSpec
from ludus.league.member import Member
from ludus.league.meta_solvers import Meta
from ludus.league.payoffs import Cell, Profile
from ludus.league.view import Match
from ludus.storage.arrays import DamagedFileError


@dataclass(frozen=True)
class Job:
    """One member trains against one match for one generation."""

    member: Member
    match: Match
    number: int  # which of the member's matches of this generation
    progress: tuple[float, float]  # the share of its planned steps before and after
    seed: int


@dataclass(frozen=True)
class Trained:
    """What came of a job."""

    arrays: dict[str, np.ndarray]  # the policy, as stored
    metadata: dict[str, Any]
    steps: int
    cells: dict[Profile, Cell] = field(default_factory=dict)  # games of training; the learner is `@member`
    losses: dict[str, float] = field(default_factory=dict)


class DamagedPolicyError(DamagedFileError):
    """A frozen policy's file is not what was written."""

    def __init__(self, name: str, cause: Exception):
        super().__init__(str(cause))
        self.name = name


class Arena(Protocol):
    """A game, and how it is played and learned. Policies are known to it by names, once `admit` showed them."""

    spec: GameSpec
    roles: dict[str, str]  # team -> role
    exact_payoffs: bool

    def admit(self, name: str, role: str, file: str, member: str = "") -> None:
        """From now on the policy in that file of the store has this name; that member froze it, now or once more."""
        ...

    def prepare(self) -> None:
        """Begin what takes long until it is there, such as a cluster's processes."""
        ...

    def start(self, member: Member, seed: int) -> Trained:
        """What a member's role begins from: the first policy of its population."""
        ...

    def train(self, jobs: list[Job]) -> list[Trained]:
        """All jobs of one generation, side by side where they can be."""
        ...

    def reset(self, member: Member, answer: str, seed: int) -> None:
        """Let a member begin from what a reset rule answered."""
        ...

    def evaluate(self, profiles: list[Profile], games: int, seed: int) -> list[Cell]:
        """Play joint choices of frozen policies."""
        ...

    def nash_conv(
        self, mixtures: dict[str, dict[str, float]], joint: dict[Profile, float] | None, told: bool = False
    ) -> float | None:
        """The sum over players of what each could gain by deviating from a meta-strategy, or where players are
        `told` what to play, by leaving that; None where it is unknown."""
        ...

    def least_exploitable(self, names: list[list[str]]) -> Meta:
        """The mixture of each team's policies that loses least to a best response in the whole game."""
        ...

    def save(self) -> dict[str, Any]:
        """What all members know, written into the store; what `restore` takes."""
        ...

    def restore(self, saved: dict[str, Any]) -> dict[str, Exception]:
        """As it was when `save` returned this; of whom it could not be read, and why."""
        ...


def exact_cell(returns: Float[np.ndarray, " team"], scale: float) -> Cell:
    """A cell of known mean returns; the score stands for them, from 0 to 1 over the game's payoffs."""
    return Cell(np.inf, returns, returns**2, 0.5 + 0.5 * returns / scale)
