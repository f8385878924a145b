"""Freeze and reset rules."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ludus.league.matchmaking import ENOUGH, pfsp
from ludus.league.member import FRESH, Member
from ludus.league.view import LIVE, View


@dataclass(frozen=True)
class Every:
    """Freeze after so many generations since the last time."""

    generations: int = 1

    def __call__(self, view: View, member: Member) -> bool:
        return view.progress[member.name].since >= self.generations


@dataclass(frozen=True)
class Never:
    """Never freeze."""

    def __call__(self, view: View, member: Member) -> bool:
        return False


@dataclass(frozen=True)
class WhenStrong:
    """Freeze if more than `rate` of games were won against every one of `whom`, or after `most` generations.

    Nothing is looked at before `least` generations, and rates of fewer than `games` games say nothing. `whom` is
    `mains` (the live main agents) or `past` (all frozen policies).
    """

    whom: str = "past"
    rate: float = 0.7
    least: int = 1
    most: int = 2
    games: float = ENOUGH

    def __call__(self, view: View, member: Member) -> bool:
        since = view.progress[member.name].since
        if since < self.least:
            return False
        if since >= self.most:
            return True
        if self.whom == "mains":
            live = (m for m in view.members.values() if m.kind == "main" and m.role in view.rivals(member))
            names = [LIVE + m.name for m in live]
        else:
            names = [e.name for e in view.past(member)]
        if not names:
            return False
        own = LIVE + member.name
        return bool(
            (view.table.games(own, names) >= self.games).all() and (view.rates(member, names) > self.rate).all()
        )


@dataclass(frozen=True)
class GoOn:
    """Never reset."""

    def __call__(self, view: View, member: Member) -> str | None:
        return None


@dataclass(frozen=True)
class Restart:
    """After freezing, with this probability, begin anew."""

    probability: float = 1.0

    def __call__(self, view: View, member: Member) -> str | None:
        return FRESH if view.random.random() < self.probability else None


@dataclass(frozen=True)
class Branch:
    """After freezing, go on from a live main agent's policy, with a fresh optimiser (SCC: Wang et al. 2021)."""

    def __call__(self, view: View, member: Member) -> str | None:
        mains = [m.name for m in view.members.values() if m.kind == "main" and m.role == member.role]
        return LIVE + str(view.random.choice(mains)) if mains else FRESH


@dataclass(frozen=True)
class Evolve:
    """After freezing, go on from a frozen policy of the role that troubles the mains, by PFSP's f_hard over them
    (adaptive evolutionary exploiters, in the manner of TStarBot-X: Han et al. 2020); with probability `fresh` anew."""

    fresh: float = 0.25

    def __call__(self, view: View, member: Member) -> str | None:
        entries = view.population.of(member.role)
        mains = [LIVE + m.name for m in view.members.values() if m.kind == "main" and m.role in view.rivals(member)]
        if not entries or not mains or view.random.random() < self.fresh:
            return FRESH
        # How little a main wins against an entry is how good a start it makes.
        rates = np.array([np.mean([view.table.between(main, e.name)[1] for main in mains]) for e in entries])
        return str(view.random.choice([e.name for e in entries], p=pfsp(rates, "squared")))
