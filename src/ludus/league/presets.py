"""Named leagues: each is a choice of members with their four rules, and of a meta-solver."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

from ludus.core.errors import UsageError, unknown
from ludus.core.spec import GameSpec
from ludus.league.anytime import Anytime
from ludus.league.league import Plan
from ludus.league.matchmaking import (
    PFSP,
    AgainstMains,
    AlphaStarMain,
    History,
    MetaStrategy,
    Pipeline,
    Quality,
    Recommended,
    Rectified,
    SelfPlay,
)
from ludus.league.member import EXACT, Member
from ludus.league.meta_solvers import meta_solver
from ludus.league.population_based import Exploit, PopulationPlay
from ludus.league.rules import Branch, Every, Evolve, GoOn, Restart, WhenStrong


@dataclass(frozen=True)
class Choice:
    """What a preset is told."""

    oracle: Any  # an algorithm, or EXACT
    meta_solver: str = ""  # empty: the preset's own
    games: int = 1000
    window: int = 0
    mains: int = 1  # main agents (of each role); members of pbt; levels of a pipeline
    exploiters: Literal["all", "main", "none"] = "all"
    rectified: bool = False
    pipeline: bool = False
    warm: bool = False
    period: int = 2  # generations before an exploiter may freeze; it must after twice as many


LEAST_EXPLOITABLE = "least-exploitable"  # in the place of a meta-solver: of exact arenas


Make = Callable[[list[str], Choice], tuple[list[Member], str]]


def _each(roles: list[str], count: int, name: str, **rules: Any) -> list[Member]:
    """So many members for each role, named `name`, `name-2`, … and with several roles `role-name`."""
    found = []
    for role in roles:
        for k in range(count):
            own = name if len(roles) == 1 else f"{role}-{name}"
            found.append(Member(own if count == 1 else f"{own}-{k + 1}", role, **rules))
    return found


def _self_play(roles: list[str], choice: Choice) -> tuple[list[Member], str]:
    return _each(roles, 1, "main", algorithm=choice.oracle, match=SelfPlay(), freeze=Every(), reset=GoOn()), "last"


def _delta_uniform(roles: list[str], choice: Choice) -> tuple[list[Member], str]:
    return _each(roles, 1, "main", algorithm=choice.oracle, match=History(0.5), freeze=Every(), reset=GoOn()), "last"


def _fictitious(roles: list[str], choice: Choice) -> tuple[list[Member], str]:
    match = MetaStrategy() if choice.oracle == EXACT else History(1.0)
    return _each(roles, 1, "main", algorithm=choice.oracle, match=match, freeze=Every(), reset=GoOn()), "uniform"


def _pfsp(roles: list[str], choice: Choice) -> tuple[list[Member], str]:
    rules = {"algorithm": choice.oracle, "match": PFSP(), "freeze": Every(), "reset": GoOn(), "decay": 0.999}
    return _each(roles, 1, "main", **rules), "last"


def _psro(roles: list[str], choice: Choice) -> tuple[list[Member], str]:
    solver = choice.meta_solver or "nash"
    rules = {"algorithm": choice.oracle, "reset": Restart(), "span": "generation", "kind": "oracle"}
    if choice.warm:
        rules |= {"reset": GoOn(), "span": "league"}
    if choice.pipeline:
        if choice.oracle == EXACT:
            raise UsageError("--pipeline trains several best responses at once; exact ones are there at once")
        levels = max(2, choice.mains)
        rules |= {"span": "none", "decay": 0.999}
        return _each(roles, levels, "level", match=Pipeline(), freeze=_Staggered(levels), **rules), solver
    match: Any = Rectified() if choice.rectified else Recommended() if solver == "ce" else MetaStrategy()
    return _each(roles, 1, "oracle", match=match, freeze=Every(), **rules), solver


def _double_oracle(roles: list[str], choice: Choice) -> tuple[list[Member], str]:
    if choice.oracle != EXACT:
        raise UsageError("double-oracle takes exact best responses; with a learner it is called psro")
    return _psro(roles, choice)


def _anytime(roles: list[str], choice: Choice) -> tuple[list[Member], str]:
    rules = {"algorithm": choice.oracle, "reset": Restart(), "kind": "oracle"}
    if choice.oracle == EXACT:
        return _each(roles, 1, "oracle", match=MetaStrategy(), freeze=Every(), **rules), LEAST_EXPLOITABLE
    if len(roles) != 2:
        raise UsageError("anytime-psro needs two teams with a role each: --roles separate")
    return _each(roles, 1, "oracle", match=Anytime(), freeze=Every(choice.period), span="none", **rules), "nash"


def _alphastar(roles: list[str], choice: Choice, *, pseudocode: bool = False) -> tuple[list[Member], str]:
    """Three mains to three main exploiters to six league exploiters, as published; here for each main 1, 1 and 2.

    The published pseudocode differs from the paper: mains freeze by the exploiters' gate, a main exploiter's gate is
    0.1 and below it all games, not half of them, are against the past, and league exploiters meet the past by a capped
    weighting.
    """
    least, most = choice.period, 2 * choice.period
    shared = {"algorithm": choice.oracle, "decay": 0.99}
    freeze = WhenStrong("past", least=least, most=most) if pseudocode else Every(least)
    mains = _each(roles, choice.mains, "main", match=AlphaStarMain(), freeze=freeze, reset=GoOn(), **shared)
    members = list(mains)
    if choice.exploiters != "none":
        match = AgainstMains(0.1, share=1.0) if pseudocode else AgainstMains()
        strong = WhenStrong("mains", least=least, most=most)
        rules = {"match": match, "freeze": strong, "reset": Restart(), "kind": "main-exploiter", "span": "none"}
        members += _each(roles, choice.mains, "main-exploiter", **rules, **shared)
    if choice.exploiters == "all":
        match_all = PFSP("capped" if pseudocode else "squared")
        strong = WhenStrong("past", least=least, most=most)
        rules = {
            "match": match_all,
            "freeze": strong,
            "reset": Restart(0.25),
            "kind": "league-exploiter",
            "span": "none",
        }
        members += _each(roles, 2 * choice.mains, "league-exploiter", **rules, **shared)
    return members, "nash"


def _alphastar_pseudocode(roles: list[str], choice: Choice) -> tuple[list[Member], str]:
    return _alphastar(roles, choice, pseudocode=True)


def _with_exploiters(roles: list[str], choice: Choice, reset: Any) -> tuple[list[Member], str]:
    """AlphaStar's league whose exploiters begin elsewhere than from nothing."""
    members, solver = _alphastar(roles, choice)
    return [m if m.kind == "main" else replace(m, reset=reset) for m in members], solver


def _tstarbot(roles: list[str], choice: Choice) -> tuple[list[Member], str]:
    return _with_exploiters(roles, choice, Evolve())


def _scc(roles: list[str], choice: Choice) -> tuple[list[Member], str]:
    return _with_exploiters(roles, choice, Branch())


def _openai_five(roles: list[str], choice: Choice) -> tuple[list[Member], str]:
    return _each(roles, 1, "main", algorithm=choice.oracle, match=Quality(), freeze=Every(), reset=GoOn()), "last"


def _pbt(roles: list[str], choice: Choice) -> tuple[list[Member], str]:
    if len(roles) > 1:
        raise UsageError("pbt needs one role for all teams: --roles shared, in a game whose seats one policy can take")
    missing = [n for n in PopulationPlay().settings if not hasattr(choice.oracle, n)]
    if missing:
        raise UsageError(f"pbt perturbs {missing[0]}, which this oracle does not have; take --oracle ppo")
    count = max(4, choice.mains)
    rules = {"match": PopulationPlay(), "freeze": Every(), "reset": Exploit(), "decay": 0.999}
    return _each(roles, count, "member", algorithm=choice.oracle, **rules), "nash"


@dataclass(frozen=True)
class _Staggered:
    """Members of a pipeline freeze one after the other."""

    levels: int

    def __call__(self, view: Any, member: Member) -> bool:
        mine = [m.name for m in view.members.values() if m.role == member.role]
        return bool(view.generation % self.levels == mine.index(member.name) % self.levels)


@dataclass(frozen=True)
class Preset:
    """How a preset makes its plan, and what it is without flags."""

    make: Make
    oracle: str = "ppo"
    roles: Literal["shared", "separate"] = "shared"  # where both are possible
    about: str = ""


PRESETS: dict[str, Preset] = {
    "self-play": Preset(_self_play, about="against the policy as it is now"),
    "delta-uniform": Preset(_delta_uniform, about="uniformly against the newest half of the past"),
    "fictitious-self-play": Preset(_fictitious, about="uniformly against all of the past"),
    "pfsp": Preset(_pfsp, about="against the past, the hardest most often"),
    "double-oracle": Preset(_double_oracle, EXACT, "separate", "exact best responses to a Nash equilibrium"),
    "psro": Preset(_psro, "ppo", "separate", "best responses to a meta-strategy (--rectified, --pipeline)"),
    "anytime-psro": Preset(_anytime, "ppo", "separate", "the meta-strategy learns against the best response"),
    "nfsp": Preset(_self_play, "nfsp", "shared", "best responses and their average, in one learner"),
    "neural-mmd": Preset(_self_play, "mmd", "shared", "regularised self-play whose last policy converges"),
    "alphastar": Preset(_alphastar, about="main agents, main exploiters, league exploiters, as published"),
    "alphastar-pseudocode": Preset(_alphastar_pseudocode, about="the same with the numbers of its pseudocode"),
    "openai-five": Preset(_openai_five, about="itself, and one game in five a past policy by quality"),
    "tstarbot": Preset(_tstarbot, about="AlphaStar's league, exploiters that evolve"),
    "scc": Preset(_scc, about="AlphaStar's league, exploiters that branch from the main agent"),
    "pbt": Preset(_pbt, about="a population that copies its best and perturbs their settings"),
}


def roles_of(spec: GameSpec, wish: str, preset: Preset) -> dict[str, str]:
    """Who plays which team: `auto`, `shared` (one role for all teams) or `separate` (a role for each team)."""
    possible = len(spec.groups) == 1 and spec.groups[0].rivals
    if len(spec.teams) < 2:
        raise UsageError(f"{spec.name} has one team only, so there is nobody to play against; see ludus train")
    if wish not in ("auto", "shared", "separate"):
        raise unknown("choice of roles", wish, ("auto", "shared", "separate"))
    if wish == "shared" and not possible:
        raise UsageError(f"the teams of {spec.name} differ, so one role cannot play them all; use --roles separate")
    shared = wish == "shared" or (wish == "auto" and possible and preset.roles == "shared")
    return {team: "players" if shared else team for team in spec.teams}


def preset(name: str) -> Preset:
    """By name."""
    if name not in PRESETS:
        raise unknown("league preset", name, PRESETS)
    return PRESETS[name]


def plan(name: str, roles: dict[str, str], choice: Choice) -> Plan:
    """A preset's members for these roles."""
    members, solver = preset(name).make(list(dict.fromkeys(roles.values())), choice)
    chosen = choice.meta_solver or solver
    solves = None if chosen == LEAST_EXPLOITABLE else meta_solver(chosen)
    ends = choice.oracle == EXACT and name in ("psro", "double-oracle") and chosen not in ("uniform", "last")
    return Plan(tuple(members), solves, choice.games, converges=ends, window=choice.window)


__all__ = ["PRESETS", "Choice", "Preset", "plan", "preset", "roles_of"]
