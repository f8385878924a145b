"""What policies of a game earn: computed where the game is a tree, else played, all joint choices at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import jax
import numpy as np

from ludus.core.tree import GameTree, tree_of_payoffs
from ludus.equilibria.policies import tabulate
from ludus.equilibria.sequence_form import SequenceForm, sequence_form
from ludus.league.arena_exact import ExactPayoffs
from ludus.league.learners import Policies, stack
from ludus.league.payoffs import Cell, Profile
from ludus.runtime.programs import Placement, tournament_for

TOURNAMENT_SLOTS = 64  # policies that play at once


@dataclass
class Evaluator:
    """Payoffs of joint choices of policies known by names."""

    env: Any  # a game for the device, or for the host
    policies: Callable[[str], Policies]  # of a name, by group
    teams: Callable[[str], list[int]]  # that whoever has this name plays
    placement: Placement

    @cached_property
    def tree(self) -> GameTree | None:
        """What payoffs can be computed over: the game's own tree, or that of a one-shot game, whose players see
        nothing and have equally many actions."""
        tree = tree_of(self.env)
        if tree is None or hasattr(self.env, "tree"):
            return tree
        if not tree.legal.all() or tree.players != len(self.env.spec.teams):
            return None
        return replace(tree, observation=np.ones((tree.players, 1), np.float32))

    def exact(self, profiles: list[Profile]) -> list[Cell]:
        """Expected returns over the game's tree."""
        self._know({n for p in profiles for n in p})
        with jax.enable_x64(True):
            return self._payoffs.evaluate(profiles)

    def nash_conv(
        self, mixtures: dict[str, dict[str, float]], joint: dict[Profile, float] | None, told: bool = False
    ) -> float:
        """The sum over players of what each could gain by deviating, over the game's tree."""
        self._know({n for m in mixtures.values() for n in m})
        with jax.enable_x64(True):
            return self._payoffs.nash_conv(mixtures, joint, told)

    def played(self, profiles: list[Profile], games: int, seed: int) -> list[Cell]:
        """So many games of each joint choice."""
        cells: dict[Profile, Cell] = {}
        for block in blocks(profiles, TOURNAMENT_SLOTS):
            cells.update(zip(block, self._tournament(block, games, seed), strict=True))
        return [cells[p] for p in profiles]

    @property
    def _known_tree(self) -> GameTree:
        assert self.tree is not None
        return self.tree

    @cached_property
    def _tree(self) -> SequenceForm:
        with jax.enable_x64(True):
            return sequence_form(self._known_tree)

    @cached_property
    def _payoffs(self) -> ExactPayoffs:
        with jax.enable_x64(True):
            return ExactPayoffs(self._tree, self._known_tree, self.env.spec.teams)

    @cached_property
    def _plans(self) -> Any:
        alone = len(self.env.spec.groups) > 1  # every player is the first agent of a group of his own
        agents = [0] * self._tree.players if alone else None
        return jax.jit(
            lambda policy: self._tree.plans(tabulate(self._tree, self._known_tree, policy, agents=agents)),
        )

    def _know(self, names: set[str]) -> None:
        """Make plans of policies."""
        for name in sorted(names):
            if name not in self._payoffs.plans:
                [policy] = self.policies(name).values()  # of its role's only group; other players' plans are not used
                with jax.enable_x64(True):
                    plans = self._plans(policy)
                self._payoffs.plans[name] = {i: np.asarray(plans[i]) for i in self.teams(name)}
        self._payoffs.forget_but(names)

    @cached_property
    def _play(self) -> Any:
        return tournament_for(self.env, self.placement.workers, self.placement)

    def _tournament(self, profiles: list[Profile], games: int, seed: int) -> list[Cell]:
        spec = self.env.spec
        stacks, who = {}, np.zeros((len(profiles), len(spec.teams)), np.int32)
        for group in spec.groups:
            teams = [i for i, team in enumerate(spec.teams) if team in group.teams]
            names = list(dict.fromkeys(p[t] for p in profiles for t in teams))
            size = 2
            while size < len(names):
                size *= 2
            stacks[group.name] = stack([self.policies(n)[group.name] for n in names], size, group.name)
            slot = {n: k for k, n in enumerate(names)}
            for row, p in enumerate(profiles):
                for t in teams:
                    who[row, t] = slot[p[t]]
        found: Any = self._play(stacks, who, games, jax.random.key(seed))
        return [
            Cell(float(games), found.returns[k, 0], found.squares[k, 0], found.scores[k, 0])
            for k in range(len(profiles))
        ]  # type: ignore[arg-type]


def tree_of(env: Any) -> GameTree | None:
    """The tree of a game that has one; a one-shot game is one, whose players move in turn and see nothing."""
    if hasattr(env, "tree"):
        found: GameTree = env.tree
        return found
    if hasattr(env, "payoffs") and getattr(env, "rounds", 1) == 1:
        return tree_of_payoffs(np.asarray(env.payoffs, float), env.spec.name)
    return None


def blocks(profiles: list[Profile], most: int) -> list[list[Profile]]:
    """Profiles in blocks of at most so many different policies."""
    found: list[list[Profile]] = []
    held: set[str] = set()
    for profile in profiles:
        if not found or len(held | set(profile)) > most:
            found.append([])
            held = set()
        found[-1].append(profile)
        held |= set(profile)
    return found
