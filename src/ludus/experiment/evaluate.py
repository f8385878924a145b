"""Evaluation of policies in a game: returns per group and team with intervals, and who wins against whom."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ludus.core.errors import UsageError
from ludus.core.spec import GameSpec, GroupSpec
from ludus.experiment.statistics import mean_interval
from ludus.networks.simple import RandomPolicy, SeatedPolicy
from ludus.runtime.evaluate import Results
from ludus.runtime.programs import Placement, evaluator_for

Policies = dict[str, Any]
_EVALUATION = 0x65766C  # folded into the seed, so that evaluation never replays training's episodes


@dataclass(frozen=True)
class Evaluation:
    """What was measured; returns are per agent: of each episode, the mean over the agents named."""

    groups: dict[str, np.ndarray]  # [episode, agent], only the agents under evaluation count (others are NaN)
    teams: dict[str, tuple[str, np.ndarray]]  # team -> its group and its mean return of each episode it played
    length: np.ndarray
    unfinished: int
    outcomes: dict[str, float]  # win, draw and loss rates of the evaluated side, where the game defines winning

    def to_dict(self, *, raw: bool = False) -> dict[str, Any]:
        """As printed by `ludus evaluate --json`."""
        groups, teams = {}, {}
        for name, x in self.groups.items():
            mean, interval = mean_interval(_row_means(x))
            groups[name] = {"mean_return": mean, "interval": interval}
        for team, (_, x) in self.teams.items():
            mean, interval = mean_interval(x)
            teams[team] = {"mean_return": mean, "interval": interval, "episodes": len(x)}
        found: dict[str, Any] = {
            "mean_return": {name: g["mean_return"] for name, g in groups.items()},
            "interval": {name: g["interval"] for name, g in groups.items()},
            "teams": teams,
            "episodes": len(self.length),
            "mean_length": float(self.length.mean()),
            "unfinished": self.unfinished,
            **self.outcomes,
        }
        if raw:
            found["returns"] = {name: _row_means(x).tolist() for name, x in self.groups.items()}
            found["lengths"] = self.length.tolist()
        return found


def _row_means(x: np.ndarray) -> np.ndarray:
    """Per episode, the mean over the agents that count."""
    rows: np.ndarray = np.nanmean(x, axis=1)
    return rows


def evaluation_key(seed: int) -> jax.Array:
    """The key of an evaluation, apart from those of training with the same seed."""
    return jax.random.fold_in(jax.random.key(seed), _EVALUATION)


class Match:
    """Evaluates policies in one game: alone, or one team at a time against other policies."""

    def __init__(self, env: Any, placement: Placement | None = None):
        self.env = env
        self.evaluator: Any = evaluator_for(env, placement.workers if placement else 0, placement)

    def __call__(
        self,
        policies: Policies,
        episodes: int,
        seed: int,
        *,
        explore: bool = True,
        against: Policies | None = None,
    ) -> Evaluation:
        """Play. With `against`, each of the game's teams in turn is played by `policies`, the others by those."""
        if episodes < 1:
            raise UsageError(f"an evaluation needs at least one episode, not {episodes}")
        spec, key = self.env.spec, evaluation_key(seed)
        if against is None:
            results = self.evaluator(policies, episodes, key, explore=explore)
            return _summarise(spec, [(None, results)])
        parts: list[tuple[str | None, Results]] = []
        shares = np.full(len(spec.teams), episodes // len(spec.teams))
        shares[: episodes % len(spec.teams)] += 1
        for i, (team, share) in enumerate(zip(spec.teams, shares, strict=True)):
            if share:
                mixed = seat(spec, team, policies, against)
                parts.append((team, self.evaluator(mixed, int(share), jax.random.fold_in(key, i), explore=explore)))
        return _summarise(spec, parts)


def seat(spec: GameSpec, team: str, ours: Policies, theirs: Policies) -> Policies:
    """Policies for all groups, with one team played by `ours` and the rest by `theirs`."""
    seated: Policies = {}
    for group in spec.groups:
        seats = jnp.asarray([0 if t == team else 1 for t in _team_of_agents(group)])
        mine, other = ours[group.name], theirs[group.name]
        if group.rivals:
            seated[group.name] = SeatedPolicy((mine, other), seats)
        else:
            seated[group.name] = mine if group.team == team else other
    return seated


def random_policies(spec: GameSpec) -> Policies:
    """Uniformly random play for every group."""
    return {group.name: RandomPolicy(group) for group in spec.groups}


def _team_of_agents(group: GroupSpec) -> list[str]:
    return list(group.teams) if group.rivals else [group.team] * group.size


def _summarise(spec: GameSpec, parts: list[tuple[str | None, Results]]) -> Evaluation:
    groups: dict[str, list[np.ndarray]] = {}
    teams: dict[str, tuple[str, list[np.ndarray]]] = {}
    for team, results in parts:
        for group in spec.groups:
            returns = results.returns[group.name].astype(float)
            owners = _team_of_agents(group)
            for owner in dict.fromkeys(owners):
                if team in (None, owner):
                    rows = returns[:, [t == owner for t in owners]].mean(axis=1)
                    teams.setdefault(owner, (group.name, []))[1].append(rows)
            counted = np.array([team in (None, t) for t in owners])
            if counted.any():
                groups.setdefault(group.name, []).append(np.where(counted, returns, np.nan))
    joined = {team: (name, np.concatenate(rows)) for team, (name, rows) in teams.items()}
    length = np.concatenate([r.length for _, r in parts])
    unfinished = int(sum((~r.finished).sum() for _, r in parts))
    return Evaluation(
        {name: np.concatenate(rows) for name, rows in groups.items()},
        joined,
        length,
        unfinished,
        _outcomes(spec, joined, alone=parts[0][0] is None),
    )


def _outcomes(spec: GameSpec, teams: dict[str, tuple[str, np.ndarray]], *, alone: bool) -> dict[str, float]:
    if spec.win_return is not None:
        returns = np.concatenate([x for _, x in teams.values()])
        return {"win_rate": float((returns > spec.win_return).mean())}
    if spec.reward == "zero-sum" and not alone:
        returns = np.concatenate([x for _, x in teams.values()])
        rates = {"win_rate": returns > 0, "draw_rate": returns == 0, "loss_rate": returns < 0}
        return {name: float(x.mean()) for name, x in rates.items()}
    return {}
