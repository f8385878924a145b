"""Population-based training (Jaderberg et al. 2017): members exploit better ones and explore around their settings."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ludus.league.matchmaking import mix
from ludus.league.member import COPY, Member
from ludus.league.view import LIVE, SELF, Match, View

SPREAD = 3.0  # first settings are the algorithm's, times up to this or divided by it


@dataclass(frozen=True)
class PopulationPlay:
    """All live members alike, oneself included, with settings of one's own."""

    settings: tuple[str, ...] = ("learning_rate", "entropy_weight")

    def __call__(self, view: View, member: Member) -> Match:
        names = [m.name for m in view.members.values() if m.role in view.rivals(member)]
        parts = [view.against(member, [SELF if n == member.name else LIVE + n]) for n in names]
        match = mix(*((1.0, part) for part in parts))
        return replace(match, settings=self.of(view, member))

    def of(self, view: View, member: Member) -> dict[str, float]:
        """A member's settings; drawn around the algorithm's the first time."""
        memory = view.progress[member.name].memory
        if "settings" not in memory:
            first = next(iter(view.members)) == member.name
            drawn = SPREAD ** view.random.uniform(-1, 1, len(self.settings))
            scale = np.ones(len(self.settings)) if first else drawn
            memory["settings"] = {
                n: float(getattr(member.algorithm, n) * s) for n, s in zip(self.settings, scale, strict=True)
            }
        found: dict[str, float] = memory["settings"]
        return found


@dataclass(frozen=True)
class Exploit:
    """The lowest quarter copies all of one of the highest quarter; its settings then move by a fifth up or down."""

    share: float = 0.25
    factors: tuple[float, float] = (0.8, 1.25)

    def __call__(self, view: View, member: Member) -> str | None:
        ranked = sorted(view.members.values(), key=lambda m: (self.strength(view, m), m.name))
        size = max(1, int(self.share * len(ranked)))
        if len(ranked) < 2 or member.name not in [m.name for m in ranked[:size]]:
            return None
        model = ranked[-1 - int(view.random.integers(size))].name
        settings = view.progress[model].memory.get("settings", {})
        moved = {n: float(x * view.random.choice(self.factors)) for n, x in settings.items()}
        view.progress[member.name].memory["settings"] = moved
        return COPY + model

    @staticmethod
    def strength(view: View, member: Member) -> float:
        """The share of games that a member won against the other live ones in training."""
        others = [LIVE + m.name for m in view.members.values() if m.name != member.name]
        return float(np.mean(view.rates(member, others))) if others else 0.5
