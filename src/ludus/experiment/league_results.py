"""What becomes of a league: matches between any two members, and how exploitable its strategy is."""

from __future__ import annotations

import dataclasses
from itertools import product
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from ludus.core.errors import UsageError, unknown
from ludus.experiment.config import resolve
from ludus.experiment.league import LeagueRun, league_arena, open_league
from ludus.experiment.render import render
from ludus.league.arena import Job
from ludus.league.arena_device import DeviceArena
from ludus.league.league import League
from ludus.league.matchmaking import MetaStrategy
from ludus.league.member import EXACT, Member
from ludus.league.rules import GoOn, Never
from ludus.networks.simple import SeatedPolicy


def entry(league: League, name: str) -> str:
    """A frozen policy's name, checked."""
    if name not in league.population.entries:
        raise unknown("policy", name, league.population.entries)
    return name


def seatings(run: LeagueRun, own: str, other: str) -> list[tuple[str, ...]]:
    """All ways to seat `own` on one team and `other` on the rest that their roles allow; the newest policies of their
    roles play the teams that neither can."""
    teams, population = run.env.spec.teams, run.league.population.entries
    found = []
    for seat, place in enumerate(teams):
        if population[own].role != run.roles[place]:
            continue
        others = [run.roles[team] for team in teams]
        rest = {r: n[-1].name for r in others if (n := run.league.population.of(r))}
        profile = tuple(
            own if t == seat else other if population[other].role == role else rest.get(role, other)
            for t, role in enumerate(others)
        )
        if other in (n for t, n in enumerate(profile) if t != seat):
            found.append(profile)
    if not found:
        raise UsageError(
            f"'{own}' plays {population[own].role} and '{other}' plays {population[other].role}, so they never meet"
        )
    return found


def match(path: Path, own: str, other: str, *, episodes: int = 1000, seed: int = 0) -> dict[str, Any]:
    """Play two frozen policies: returns, intervals and shares won of `own`, seat by seat."""
    if episodes < 2:
        raise UsageError(f"a match needs at least 2 episodes, not {episodes}")
    run = open_league(path).begun()
    league = run.league
    entry(league, own)
    entry(league, other)
    profiles = seatings(run, own, other)
    cells = run.arena.evaluate(profiles, episodes, seed)
    rows = []
    for profile, cell in zip(profiles, cells, strict=True):
        seat = profile.index(own)
        mean, error = float(cell.mean[seat]), float(cell.error[seat])
        rows.append(
            {
                "profile": list(profile),
                "return": mean,
                "interval": [mean - 1.96 * error, mean + 1.96 * error],
                "score": float(cell.score[seat]),
                "games": None if np.isinf(cell.games) else int(cell.games),
            }
        )
    return {"own": own, "other": other, "seatings": rows}


def newest_two(path: Path, own: str | None, other: str | None) -> tuple[str, str]:
    """Names, the newest policies that meet where none are given."""
    run = open_league(path).begun()
    population, teams = run.league.population, run.env.spec.teams
    own = entry(run.league, own) if own else population.of(run.roles[teams[0]])[-1].name
    role = population.entries[own].role
    met = next((run.roles[t] for t in teams if run.roles[t] != role), role)
    return own, entry(run.league, other) if other else population.of(met)[-1].name


def render_members(path: Path, own: str | None, other: str | None, out: Path | None, seed: int, explore: bool) -> Path:
    """Draw one episode between two members: the first team is `own`'s where its role allows it."""
    run = open_league(path).begun()
    if run.config.oracle == EXACT:
        raise UsageError("policies of an exact league are plans of its tree; only learners' games are drawn")
    own, other = newest_two(path, own, other)
    spec = run.env.spec
    profile = seatings(run, own, other)[0]
    policies: dict[str, Any] = {}
    for group in spec.groups:
        playing = [profile[spec.teams.index(team)] for team in group.teams]
        found = [run.arena.policies(name)[group.name] for name in playing]
        seats = jnp.arange(group.size)
        policies[group.name] = SeatedPolicy(tuple(found), seats) if group.rivals else found[0]
    return render(run.env, policies, path, out, seed=seed, explore=explore)


def best_response(
    path: Path,
    *,
    oracle: str | None = None,
    steps: int = 1_000_000,
    against: str = "meta",
    episodes: int = 2000,
    seed: int = 0,
) -> dict[str, Any]:
    """Train an exploiter for each role against a frozen strategy: a lower bound on its exploitability.

    The bound is the sum over teams of what the exploiter gained, less 1.96 standard errors (never less than 0, as
    staying is possible), divided by the number of teams.
    """
    run = open_league(path).begun()
    league = run.league
    strategy = _strategy(run, against)
    exact = run.arena.nash_conv(strategy, None)  # of the mixtures: an exploiter meets nobody who is told what to play
    name = oracle or (EXACT if run.config.oracle == EXACT else None)
    if name == EXACT:
        if exact is None:
            raise UsageError(
                f"{run.env.spec.name} has no tree to compute best responses in; take a learner: --oracle ppo"
            )
        return _bound(run, against, {}, exact)
    algorithm: Any = run.config.oracle if name is None else resolve(name, run.config.environment)[0].algorithm
    if run.config.oracle == EXACT:
        raise UsageError("policies of an exact league are plans of its tree; their best response is --oracle exact")
    roles = list(dict.fromkeys(run.roles.values()))
    exploiters = tuple(
        Member(f"exploiter-{role}", role, algorithm, MetaStrategy(), Never(), GoOn(), span="generation")
        for role in roles
    )
    arena = league_arena(run, exploiters, steps, seed, slots=run.config.settings.slots)
    for member in exploiters:
        arena.check_structure(member)
    view = dataclasses.replace(league.view(league.generation), mixtures=strategy, joint=None)
    jobs = [Job(m, MetaStrategy()(view, m), 0, (0.0, 1.0), seed + i) for i, m in enumerate(exploiters)]
    trained = arena.train(jobs)
    for member, result in zip(exploiters, trained, strict=True):
        arena.hold(member.name, member.role, result)
    return _bound(run, against, _gains(run, arena, jobs, strategy, episodes, seed), exact)


def _strategy(run: LeagueRun, against: str) -> dict[str, dict[str, float]]:
    """Mixtures by team: the meta-strategy, the newest policies, or one policy wherever its role plays."""
    league = run.league
    if against == "meta":
        return league.mixtures
    newest = {team: {league.population.of(role)[-1].name: 1.0} for team, role in run.roles.items()}
    if against == "last":
        return newest
    role = league.population.entries[entry(league, against)].role
    return {team: {against: 1.0} if own == role else newest[team] for team, own in run.roles.items()}


def _gains(
    run: LeagueRun, arena: DeviceArena, jobs: list[Job], strategy: dict[str, dict[str, float]], episodes: int, seed: int
) -> dict[str, dict[str, float]]:
    """What each team's exploiter earns against the strategy, and what the strategy earns against itself."""
    teams = run.env.spec.teams
    found = {}
    for at, team in enumerate(teams):
        exploiter = next(j.member.name for j in jobs if j.member.role == run.roles[team])
        tables = [{exploiter: 1.0} if other == team else strategy[other] for other in teams]
        best, error = _mean(arena, tables, at, episodes, seed)
        stays, other_error = _mean(arena, [strategy[other] for other in teams], at, episodes, seed + 1)
        both = float(np.hypot(error, other_error))
        found[team] = {"best_response": best, "error": both, "strategy": stays, "gain": best - stays}
    return found


def _mean(
    arena: DeviceArena, tables: list[dict[str, float]], team: int, episodes: int, seed: int
) -> tuple[float, float]:
    """A team's mean return where every team draws from its mixture, and its standard error."""
    profiles = list(product(*tables))
    weights = [float(np.prod(x)) for x in product(*(t.values() for t in tables))]
    cells = arena.evaluate(profiles, episodes, seed)
    mean = sum(w * float(c.mean[team]) for w, c in zip(weights, cells, strict=True))
    variance = sum((w * float(c.error[team])) ** 2 for w, c in zip(weights, cells, strict=True))
    return float(mean), float(np.sqrt(variance))


def _bound(run: LeagueRun, against: str, teams: dict[str, Any], exact: float | None) -> dict[str, Any]:
    count = len(run.env.spec.teams)
    bound = exact if not teams else sum(max(0.0, row["gain"] - 1.96 * row["error"]) for row in teams.values())
    assert bound is not None
    return {
        "run": str(run.path),
        "against": against,
        "teams": teams,
        "exploitability": bound / count,
        "exact_exploitability": None if exact is None else exact / count,
    }
