"""Match rules: whom a member meets. Each is a frozen dataclass of its numbers, called with the view and the member."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from ludus.core.errors import UsageError, unknown
from ludus.equilibria.normal_form import solve_zero_sum
from ludus.league.member import Member
from ludus.league.population import Entry
from ludus.league.view import LIVE, SELF, Match, View

Rates = Float[np.ndarray, " opponent"]

_WEIGHTINGS = {
    "squared": lambda w: (1 - w) ** 2,  # f_hard with p = 2
    "linear": lambda w: 1 - w,  # f_hard with p = 1
    "variance": lambda w: w * (1 - w),  # f_var
    "capped": lambda w: np.minimum(0.5, 1 - w),
}


def pfsp(rates: Rates, weighting: str = "squared") -> Rates:
    """Prioritised fictitious self-play (Vinyals et al. 2019): how often to meet those against whom one wins `rates`.

    Where all weights are 0, as where everything is won, all are met alike.
    """
    if weighting not in _WEIGHTINGS:
        raise unknown("PFSP weighting", weighting, _WEIGHTINGS)
    weights = _WEIGHTINGS[weighting](np.clip(np.asarray(rates, float), 0.0, 1.0))
    total = weights.sum()
    return weights / total if total > 0 else np.full(len(weights), 1.0 / max(1, len(weights)))


ENOUGH = 30.0  # games after which a rate is taken at its word


def cautious_rates(view: View, member: Member, names: list[str]) -> Rates:
    """Rates of fewer games than `ENOUGH` are drawn to 1/2: who won its only five games would else be met no more."""
    known = np.minimum(view.table.games(LIVE + member.name, names) / ENOUGH, 1.0)
    return known * view.rates(member, names) + (1 - known) * 0.5


def _names(entries: list[Entry]) -> list[str]:
    return [e.name for e in entries]


def play_self(view: View, member: Member) -> Match:
    """Self-play, or where roles differ, the other roles' live members."""
    if view.rivals(member) == [member.role]:
        return view.against(member, [SELF])
    return view.against(member, [LIVE + m.name for m in view.members.values() if m.role in view.rivals(member)])


@dataclass(frozen=True)
class SelfPlay:
    """Against the policy as it is now."""

    def __call__(self, view: View, member: Member) -> Match:
        return play_self(view, member)


@dataclass(frozen=True)
class History:
    """Uniformly against the newest `share` of all past policies (Bansal et al. 2018: δ-uniform is `share` = 1 − δ).

    Before there are any, against itself.
    """

    share: float = 1.0

    def __call__(self, view: View, member: Member) -> Match:
        past = _names(view.past(member))
        newest = past[len(past) - max(1, round(self.share * len(past))) :]
        return view.against(member, newest) if newest else play_self(view, member)


@dataclass(frozen=True)
class PFSP:
    """Prioritised against all past policies, and with probability `self_play` against itself."""

    weighting: str = "squared"
    self_play: float = 0.0

    def __call__(self, view: View, member: Member) -> Match:
        past = _names(view.past(member))
        if not past:
            return play_self(view, member)
        chances = pfsp(cautious_rates(view, member, past), self.weighting)
        return mix((self.self_play, play_self(view, member)), (1 - self.self_play, view.against(member, past, chances)))


def mix(*parts: tuple[float, Match]) -> Match:
    """One of several matches, by their weights."""
    profiles = tuple(p for _, match in parts for p in match.profiles)
    weights = np.concatenate([share * match.weights for share, match in parts])
    return Match(profiles, weights).normalised()


@dataclass(frozen=True)
class MetaStrategy:
    """The others' part of the meta-strategy, joint where it is; the learner itself plays its seat always."""

    def __call__(self, view: View, member: Member) -> Match:
        if view.joint is None:
            return view.mixed(member, view.mixtures)
        return _others(view, member, view.joint)


def _others(view: View, member: Member, joint: dict[tuple[str, ...], float]) -> Match:
    """What the others do under a joint distribution, whatever the member is told."""
    at = list(view.spec.teams).index(view.teams_of(member.role)[0])
    return Match(tuple(p[at + 1 :] + p[:at] for p in joint), np.array(list(joint.values()))).normalised()


@dataclass(frozen=True)
class Recommended:
    """Correlated meta-strategies: one match for each policy that the member may be told to play (JPSRO's CE oracle)."""

    least: float = 1e-6

    def __call__(self, view: View, member: Member) -> list[Match]:
        if view.joint is None:
            raise UsageError("training for each recommendation needs a correlated meta-solver: ce or cce")
        at = list(view.spec.teams).index(view.teams_of(member.role)[0])
        found = []
        for told in dict.fromkeys(p[at] for p in view.joint):
            given = {p: w for p, w in view.joint.items() if p[at] == told and w > self.least}
            if given:
                found.append(_others(view, member, given))
        return found


@dataclass(frozen=True)
class Rectified:
    """One match for each policy that the meta-strategy plays: against those that it does not lose to
    (Balduzzi et al. 2019), each training on from that policy. Two teams."""

    least: float = 1e-3

    def __call__(self, view: View, member: Member) -> list[Match]:
        team = view.teams_of(member.role)[0]
        if len(view.spec.teams) != 2:
            raise UsageError(f"--rectified needs two teams, and {view.spec.name} has {len(view.spec.teams)}")
        other = view.others(team)[0]
        found = []
        for own, weight in view.mixtures[team].items():
            met = {n: w for n, w in view.mixtures[other].items() if own == n or view.table.between(own, n)[1] >= 0.5}
            if weight >= self.least and any(met.values()):
                found.append(replace(view.mixed(member, {other: met}), start=own))
        return found or [MetaStrategy()(view, member)]


@dataclass(frozen=True)
class AlphaStarMain:
    """A main agent: self-play, PFSP over all past, and PFSP against forgotten mains and strong exploiters.

    Shares and thresholds as published (Vinyals et al. 2019): 35 / 50 / 15; a part without opponents goes to
    self-play, and self-play against another main that wins more than `1 − weak` of games meets its past instead.
    """

    self_play: float = 0.35
    past: float = 0.5
    forgotten: float = 0.15
    weak: float = 0.3

    def __call__(self, view: View, member: Member) -> Match:
        past = _names(view.past(member))
        mains = [m for m in view.members.values() if m.kind == "main" and m.role in view.rivals(member)]
        share = 1.0 / max(1, len(mains))
        current = mix(*((share, self._against_main(view, member, main)) for main in mains))
        everyone = view.against(member, past, pfsp(cautious_rates(view, member, past))) if past else current
        return mix(
            (self.self_play, current),
            (self.past, everyone),
            (self.forgotten, self.verification(view, member) or current),
        )

    def _against_main(self, view: View, member: Member, main: Member) -> Match:
        if main.name == member.name:
            return view.against(member, [SELF])
        live = LIVE + main.name
        if view.rates(member, [live])[0] > self.weak:
            return view.against(member, [live])
        own = _names([e for e in view.past(member) if e.member == main.name])
        return (
            view.against(member, own, pfsp(view.rates(member, own), "variance"))
            if own
            else view.against(member, [live])
        )

    def verification(self, view: View, member: Member) -> Match | None:
        """Exploiters that are won against too rarely; else mains of the past that were won against, and no more."""
        exploiters = _names(view.past(member, "main-exploiter"))
        rates = view.rates(member, exploiters)
        if len(rates) and rates.min() < self.weak:
            return view.against(member, exploiters, pfsp(rates))
        forgotten = []
        for main in dict.fromkeys(e.member for e in view.past(member, "main")):
            own = _names([e for e in view.past(member, "main") if e.member == main])
            rates = view.rates(member, own)
            kept = without_monotone_suffix(rates)
            if kept and rates[:kept].min() < 0.7:
                forgotten.append((1.0, view.against(member, own[:kept], pfsp(rates[:kept]))))
        return mix(*forgotten) if forgotten else None


def without_monotone_suffix(rates: Rates) -> int:
    """How many remain of a history of win rates without the falling end that newer, stronger opponents make."""
    for i in range(len(rates) - 1, 0, -1):
        if rates[i - 1] < rates[i]:
            return i + 1
    return 0


@dataclass(frozen=True)
class AgainstMains:
    """A main exploiter: the live main agents; as long as it wins `gate` of games against one or less, a `share` of its
    games is against that one's past by f_var.

    The paper says `half of the time`; its pseudocode always meets the past then, so that an exploiter which begins
    badly does not learn that it has become better before it is frozen.
    """

    gate: float = 0.2
    share: float = 0.5

    def __call__(self, view: View, member: Member) -> Match:
        mains = [m for m in view.members.values() if m.kind == "main" and m.role in view.rivals(member)]
        parts = []
        for main in mains:
            live = LIVE + main.name
            own = _names([e for e in view.past(member) if e.member == main.name])
            if view.rates(member, [live])[0] > self.gate or not own:
                parts.append((1.0 / len(mains), view.against(member, [live])))
            else:
                past = view.against(member, own, pfsp(view.rates(member, own), "variance"))
                parts.append((self.share / len(mains), past))
                parts.append(((1 - self.share) / len(mains), view.against(member, [live])))
        return mix(*parts)


@dataclass(frozen=True)
class Quality:
    """OpenAI Five: itself, and with probability `past` a past policy by a softmax of qualities.

    Each win against a past policy i lowers its quality q_i by η / (N p_i), N policies of which it was drawn with p_i.
    """

    past: float = 0.2
    rate: float = 0.01

    def __call__(self, view: View, member: Member) -> Match:
        past = _names(view.past(member))
        if not past:
            return play_self(view, member)
        chances = quality_softmax(self.qualities(view, member, past))
        return mix((1 - self.past, play_self(view, member)), (self.past, view.against(member, past, chances)))

    def qualities(self, view: View, member: Member, names: list[str]) -> Rates:
        """As they stand; a new policy begins with the highest there is."""
        kept: dict[str, float] = view.progress[member.name].memory.get("quality", {})
        top = max(kept.values(), default=0.0)
        return np.array([kept.get(name, top) for name in names])

    def learn(self, view: View, member: Member, wins: dict[str, float]) -> None:
        """After a generation: how often the member won against each."""
        past = _names(view.past(member))
        if past:
            q = quality_update(
                self.qualities(view, member, past), np.array([wins.get(n, 0.0) for n in past]), self.rate
            )
            view.progress[member.name].memory["quality"] = dict(zip(past, q.tolist(), strict=True))


def quality_softmax(quality: Rates) -> Rates:
    """How often each is drawn."""
    weights = np.exp(quality - quality.max())
    return weights / weights.sum()


def quality_update(quality: Rates, wins: Rates, rate: float = 0.01) -> Rates:
    """q_i − η wins_i / (N p_i), p as it was when they were drawn.

    Where many games make that more than 1 for somebody, it is scaled for all alike, as p stands still meanwhile.
    """
    chances = np.maximum(quality_softmax(quality), 1e-3 / len(quality))
    lower = rate * wins / (len(quality) * chances)
    return quality - lower / max(1.0, lower.max(initial=0.0))


@dataclass(frozen=True)
class Pipeline:
    """P2SRO (McAleer et al. 2020): a Nash equilibrium between all frozen policies and the live members below in the
    pipeline, by what is known of their games; who is not known to win or lose counts half. Two teams, zero-sum.

    The older a member is, the lower it stands and the sooner it freezes; the lowest meets frozen policies only.
    """

    def __call__(self, view: View, member: Member) -> Match:
        if len(view.spec.teams) != 2 or view.spec.reward != "zero-sum":
            raise UsageError(f"--pipeline needs a zero-sum game of two teams, which {view.spec.name} is not")
        [rival] = view.rivals(member)
        met, own = self.below(view, member, rival), self.below(view, member, member.role)
        if not any(name.startswith(LIVE) for name in met):
            return MetaStrategy()(view, member)
        payoffs = np.stack([view.table.rates(name, met, by_return=True) for name in own])
        return view.against(member, met, np.maximum(solve_zero_sum(payoffs)[1], 0.0))

    def below(self, view: View, member: Member, role: str) -> list[str]:
        """Of a role: all frozen policies, and the live members that stand lower than this one."""
        lower = [m for m in view.members.values() if m.role == role and self.age(view, m) > self.age(view, member)]
        return [*_names(view.population.of(role)), *(LIVE + m.name for m in lower)]

    @staticmethod
    def age(view: View, member: Member) -> int:
        """Generations since it began; the oldest is the lowest."""
        return view.progress[member.name].since
