"""Different algorithms for different teams, as one algorithm: each sees the game and the rollout of its own groups."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
from jaxtyping import Array, Key

from ludus.core.algorithm import Learner, Metrics, Remembers
from ludus.core.errors import nearest
from ludus.core.policy import Policy
from ludus.core.rollout import Rollout
from ludus.core.spec import GameSpec, GroupSpec


@dataclass(frozen=True)
class PerTeam:
    """`PerTeam({"predators": MAPPO(), "prey": PPO()})`: every team of the game has its algorithm."""

    teams: dict[str, Any]

    @property
    def rollout_length(self) -> int:
        """Of all of them; `check` makes sure that they agree."""
        return int(next(iter(self.teams.values())).rollout_length)

    @property
    def splits(self) -> bool:
        """Whether environments may be split over devices: whether all of them allow it."""
        return all(getattr(a, "splits", True) for a in self.teams.values())

    def check(self, spec: GameSpec, num_envs: int) -> str | None:
        """See `ludus.core.algorithm.Algorithm.check`."""
        known = list(dict.fromkeys(group.team for group in spec.groups))
        for team in self.teams:
            if team not in known:
                return f"{spec.name} has no team '{team}'{nearest(team, known) or _listed(known)}"
        missing = [team for team in known if team not in self.teams]
        if missing:
            return f"team '{missing[0]}' of {spec.name} has no algorithm"
        lengths = {team: a.rollout_length for team, a in self.teams.items()}
        if len(set(lengths.values())) > 1:
            return f"all teams learn from the same rollouts, so their rollout_length must agree, not {lengths}"
        problems = (a.check(_part(spec, team), num_envs) for team, a in self.teams.items())
        return next((problem for problem in problems if problem), None)

    def init(self, spec: GameSpec, num_envs: int, *, key: Key[Array, ""]) -> Learner:
        """One learner for each team."""
        learners = {
            team: a.init(_part(spec, team), num_envs, key=jax.random.fold_in(key, i))
            for i, (team, a) in enumerate(self.teams.items())
        }
        return _join(learners, _Groups({team: _names(spec, team) for team in self.teams}))

    def make_room(self, learner: Learner, segment: Rollout, num_envs: int) -> Learner:
        """Let each team's algorithm that keeps experience make room for its own."""
        groups: _Groups = learner.shared["groups"]
        learners = {}
        for team, algorithm in self.teams.items():
            own = _of(learner, team)
            part = segment.restrict(groups.names[team])
            learners[team] = algorithm.make_room(own, part, num_envs) if isinstance(algorithm, Remembers) else own
        return _join(learners, groups)

    def policy(self, learner: Learner) -> dict[str, Policy]:
        """The policies of all teams' groups."""
        return {name: policy for team, a in self.teams.items() for name, policy in a.policy(_of(learner, team)).items()}

    def update(self, learner: Learner, rollout: Rollout, *, key: Key[Array, ""]) -> tuple[Learner, Metrics]:
        """Every team learns from its groups' part of the rollout."""
        learners, metrics = {}, {}
        groups: _Groups = learner.shared["groups"]
        for i, (team, algorithm) in enumerate(self.teams.items()):
            part = rollout.restrict(groups.names[team])
            learners[team], own = algorithm.update(_of(learner, team), part, key=jax.random.fold_in(key, i))
            metrics.update(own)
        return _join(learners, groups), metrics

    def architecture(self, group: GroupSpec) -> dict[str, Any]:
        """What restores a stored policy of a group."""
        algorithm: Any = self.teams[group.team]
        found: dict[str, Any] = algorithm.architecture(group)
        return found


class _Groups(eqx.Module):
    names: dict[str, tuple[str, ...]] = eqx.field(static=True)

    def __hash__(self) -> int:
        return hash(tuple(self.names.items()))


def _listed(teams: list[str]) -> str:
    return f"; it has: {', '.join(teams)}"


def _names(spec: GameSpec, team: str) -> tuple[str, ...]:
    return tuple(group.name for group in spec.groups if group.team == team)


def _part(spec: GameSpec, team: str) -> GameSpec:
    return spec.restrict(_names(spec, team))


def _of(learner: Learner, team: str) -> Learner:
    return Learner(learner.shared["teams"][team], learner.per_env[team] if learner.per_env else ())


def _join(learners: dict[str, Learner], groups: _Groups) -> Learner:
    shared = {"teams": {team: x.shared for team, x in learners.items()}, "groups": groups}
    return Learner(shared, {team: x.per_env for team, x in learners.items()})


def parse(text: str, make: Any) -> PerTeam | None:
    """`predators=mappo,prey=ppo` as a `PerTeam`, with `make(name)` for each; None if the text is no such list."""
    if "=" not in text:
        return None
    pairs = [pair.partition("=") for pair in text.split(",")]
    return PerTeam({team.strip(): make(name.strip()) for team, _, name in pairs})
