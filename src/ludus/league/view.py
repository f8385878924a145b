"""What rules see of a league, and what they answer."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from ludus.core.spec import GameSpec
from ludus.league.payoffs import PayoffTable
from ludus.league.population import Entry, Population

if TYPE_CHECKING:
    from ludus.league.member import Member

SELF = "self"  # in the place of a name: the learner itself, which then learns from those seats too
LIVE = "@"  # before a member's name: its policy as it is now, not frozen


@dataclass(frozen=True)
class Match:
    """Whom a learner meets: one of `profiles` is drawn for each episode, with these weights.

    A profile names who plays each other team, in turn from the learner's: entries, `@member`, or `self`.
    """

    profiles: tuple[tuple[str, ...], ...]
    weights: Float[np.ndarray, " profile"]
    start: str | None = None  # what training begins from instead of where the member stands: an entry's name
    settings: dict[str, float] = field(default_factory=dict)  # hyperparameters of the algorithm to replace

    def at_most(self, count: int, random: np.random.Generator) -> Match:
        """Itself, or so many of its profiles by systematic sampling: each is as frequent as before on average."""
        if len(self.profiles) <= count:
            return self
        points = (np.arange(count) + random.random()) / count
        drawn = np.searchsorted(np.cumsum(self.weights) / self.weights.sum(), points, side="right")
        kept = np.minimum(drawn, len(self.profiles) - 1)
        chosen = tuple(self.profiles[k] for k in kept)
        return Match(chosen, np.full(count, 1 / count), self.start, self.settings).normalised()

    def normalised(self) -> Match:
        """Without profiles that are never drawn, repeated ones joined, weights adding up to 1."""
        total: dict[tuple[str, ...], float] = {}
        for profile, weight in zip(self.profiles, self.weights, strict=True):
            if weight > 0:
                total[profile] = total.get(profile, 0.0) + float(weight)
        weights = np.array(list(total.values()))
        return Match(tuple(total), weights / weights.sum(), self.start, self.settings)


@dataclass
class Progress:
    """How far a member is."""

    generations: int = 0  # trained in all
    since: int = 0  # since it last froze a policy or was reset
    steps: int = 0  # environment steps in all
    parent: str | None = None  # the entry that its present training began from
    resets: int = 0
    memory: dict[str, Any] = field(default_factory=dict)  # what its rules keep, as plain values


@dataclass(frozen=True)
class View:
    """The league as rules see it."""

    generation: int
    spec: GameSpec
    roles: dict[str, str]  # team -> role
    population: Population
    table: PayoffTable
    members: dict[str, Member]
    progress: dict[str, Progress]
    mixtures: dict[str, dict[str, float]]  # the newest meta-strategy: team -> entry -> probability
    joint: dict[tuple[str, ...], float] | None  # of correlated meta-strategies: a profile of all teams
    random: np.random.Generator

    def teams_of(self, role: str) -> list[str]:
        """The teams that a role may play."""
        return [team for team, own in self.roles.items() if own == role]

    def others(self, team: str) -> list[str]:
        """The other teams, in turn."""
        teams = list(self.spec.teams)
        at = teams.index(team)
        return teams[at + 1 :] + teams[:at]

    def rivals(self, member: Member) -> list[str]:
        """The roles that a member meets: its own where it plays against its like."""
        team = self.teams_of(member.role)[0]
        return list(dict.fromkeys(self.roles[other] for other in self.others(team)))

    def past(self, member: Member, by: str | None = None) -> list[Entry]:
        """All frozen policies that a member may meet (of members of that kind; what all began from is a main's)."""
        found = [e for role in self.rivals(member) for e in self.population.of(role)]
        kind = lambda e: self.members[e.member].kind if e.member in self.members else "main"
        return [e for e in found if by is None or kind(e) == by]

    def rates(self, member: Member, names: list[str]) -> Float[np.ndarray, " name"]:
        """The share of games that a member, as it is now, won against each; 1/2 where unknown."""
        return self.table.rates(LIVE + member.name, names)

    def against(self, member: Member, names: list[str], weights: Any = None) -> Match:
        """A match against one of these (policies of all roles that it meets), by their weights."""
        weights = np.full(len(names), 1.0) if weights is None else np.asarray(weights, float)
        if len(self.rivals(member)) == 1:
            width = len(self.spec.teams) - 1
            return Match(tuple((name,) * width for name in names), weights).normalised()
        mixtures: dict[str, dict[str, float]] = {}
        for name, weight in zip(names, weights, strict=True):
            mixtures.setdefault(self._role(name), {})[name] = float(weight)
        for role, mixture in mixtures.items():  # of whom nobody is to be met: all alike, since somebody has to play
            if not any(mixture.values()):
                mixtures[role] = dict.fromkeys(mixture, 1.0)
        for role in self.rivals(member):  # whoever is not spoken of plays as it is now
            if role not in mixtures:
                live = [m.name for m in self.members.values() if m.role == role and m.kind == "main"]
                entries = [LIVE + name for name in live] or [e.name for e in self.population.of(role)]
                mixtures[role] = {name: 1.0 / len(entries) for name in entries}
        return self.mixed(
            member, {team: mixtures[self.roles[team]] for team in self.others(self.teams_of(member.role)[0])}
        )

    def mixed(self, member: Member, mixtures: dict[str, dict[str, float]]) -> Match:
        """Every other team draws by itself, by its own mixture."""
        team = self.teams_of(member.role)[0]
        tables = [mixtures[other] for other in self.others(team)]
        profiles = tuple(product(*tables))
        weights = np.array([np.prod(x) for x in product(*(table.values() for table in tables))])
        return Match(profiles, weights).normalised()

    def _role(self, name: str) -> str:
        if name.startswith(LIVE):
            return self.members[name.removeprefix(LIVE)].role
        return self.population.entries[name].role
