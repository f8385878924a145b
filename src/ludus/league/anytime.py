"""Anytime PSRO (McAleer et al. 2022): a meta-strategy that learns against the best response while that learns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from ludus.league.member import Member
from ludus.league.view import LIVE, Match, View


@dataclass(frozen=True)
class Anytime:
    """Two teams. A member meets the other's population by multiplicative weights: who pays it more than the rest
    is met less in the next generation. Those weights are the other's meta-strategy."""

    rate: float = 2.0

    def weights(self, view: View, member: Member) -> dict[str, float]:
        """Of all policies of the other role; new ones begin at the mean."""
        role = view.rivals(member)[0]
        names = [e.name for e in view.population.of(role)]
        held: dict[str, float] = view.progress[member.name].memory.get("weights", {})
        middle = float(np.mean([held[n] for n in names if n in held] or [0.0]))
        logs = np.array([held.get(n, middle) for n in names])
        share: Float[np.ndarray, " policy"] = np.exp(logs - logs.max())
        return dict(zip(names, (share / share.sum()).tolist(), strict=True))

    def __call__(self, view: View, member: Member) -> Match:
        weights = self.weights(view, member)
        return view.against(member, list(weights), list(weights.values()))

    def learn(self, view: View, member: Member, wins: dict[str, float]) -> None:
        """After a generation: w ∝ w exp(−rate · (what the member earned against it, above the mean))."""
        weights = self.weights(view, member)
        names = list(weights)
        # Returns, not games won: who loses many games for a chip each may be hard to gain from.
        rates = view.table.rates(LIVE + member.name, names, by_return=True)
        mean = float(rates @ np.array(list(weights.values())))
        logs = np.log(np.maximum(list(weights.values()), 1e-9)) - self.rate * (rates - mean)
        view.progress[member.name].memory["weights"] = dict(zip(names, (logs - logs.max()).tolist(), strict=True))

    def meta(self, view: View, member: Member) -> dict[str, dict[str, float]]:
        """The meta-strategies that it holds, by team."""
        return {team: self.weights(view, member) for team in view.teams_of(view.rivals(member)[0])}
