"""`ludus league …` and `ludus best-response`."""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro

from ludus.cli.output import print_json
from ludus.cli.parse import parse
from ludus.core.errors import UsageError, unknown
from ludus.core.output import prints_to_stderr

USAGE = """usage: ludus league PRESET ENVIRONMENT [--oracle ppo|exact|…] [--generations N] [--meta-solver nash] [flags]
       ludus league resume RUN [--generations N]
       ludus league status|payoffs|ratings RUN [--json]
       ludus league match RUN MEMBER MEMBER [--episodes N] [--json]
       ludus league list: the presets

       ludus league PRESET ENVIRONMENT --help lists every flag"""


@dataclass(frozen=True)
class _Command:
    oracle: str | None = None
    """How members learn: an algorithm's name, or `exact` for best responses of compiled games."""
    run_dir: Path | None = None
    """Where the league lives (default: a new directory under runs/)."""
    config: Path | None = None
    """A TOML file with tables [algorithm], [environment], [settings]; flags go over it."""
    dry_run: bool = False
    """Print the resolved configuration and the members, and stop."""
    json: bool = False
    """Print one JSON object on standard output at the end, and nothing else there."""
    quiet: bool = False
    """Print nothing but errors."""


def league(arguments: list[str]) -> int:
    """`ludus league PRESET ENVIRONMENT`, or one of its verbs."""
    from ludus.league.presets import PRESETS

    verbs = {"resume": _resume, "status": _status, "payoffs": _payoffs, "ratings": _ratings, "match": _match}
    if arguments in ([], ["-h"], ["--help"]):
        print(USAGE, file=sys.stdout if arguments else sys.stderr)
        return 0 if arguments else 2
    if arguments[0] == "list":
        for name, preset in PRESETS.items():
            print(f"{name:<22}{preset.about}")
        return 0
    if arguments[0] in verbs:
        return verbs[arguments[0]](arguments[1:])
    if arguments[0] not in PRESETS:
        raise unknown("league preset", arguments[0], [*PRESETS, *verbs])
    if len(arguments) < 2 or arguments[1].startswith("-"):
        if "-h" in arguments or "--help" in arguments:
            arguments = [arguments[0], "spiel/kuhn_poker", *arguments[1:]]
        else:
            raise UsageError(f"usage: ludus league {arguments[0]} ENVIRONMENT, e.g. ludus league psro spiel/kuhn_poker")
    return _run(arguments[0], arguments[1], arguments[2:])


def _run(preset: str, environment: str, rest: list[str]) -> int:
    from ludus.cli.flags import ask, value_of
    from ludus.envs.registry import check_name
    from ludus.experiment.league import LeagueRun, run_league
    from ludus.experiment.league_config import LeagueConfig, resolve_league
    from ludus.runtime.setup import configure

    configure()  # before suites are imported: they use JAX at once, which then keeps the devices it has
    check_name(environment)  # a wrong name is refused before flags are looked at
    oracle, file = value_of(rest, "--oracle"), value_of(rest, "--config")
    base = resolve_league(preset, environment, oracle=oracle, file=None if file is None else Path(file))
    line = f"league {preset} {environment}"
    asked = ask(rest, line, _Command(), base.settings, base.oracle, environment, base.options)
    config = LeagueConfig(preset, environment, asked.algorithm, asked.options, asked.settings)
    checked = config.to_dict()
    tables = {k: checked[k] for k in ("algorithm", "environment", "settings")}
    resolve_league(preset, environment, oracle=checked["algorithm"]["name"], changes=tables)  # refuses what cannot be
    given: Any = asked.command
    if given.dry_run:
        run = LeagueRun(config)
        members = [f"{m.name} ({m.kind}, plays {m.role})" for m in run.plan.members]
        if given.json:
            print_json({"config": checked, "members": members})
        else:
            for name, value in _flat(checked):
                print(f"{name:<36} {value}")
            print("members: " + ", ".join(members))
        return 0
    quiet = given.quiet or given.json
    with prints_to_stderr():
        done = run_league(config, given.run_dir, watch=None if quiet else _watch, say=_say)
    return _finished(done, as_json=given.json, quiet=given.quiet)


def _flat(tree: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for key, value in tree.items():
        rows += _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else [(f"{prefix}{key}", value)]
    return rows


def _say(text: str) -> None:
    print(f"ludus: {text}", file=sys.stderr, flush=True)


def _watch(generation: Any) -> None:
    """One generation as a few lines: who trained against whom, what it won, who is played now."""
    gap = "" if generation.nash_conv is None else f"   NashConv {generation.nash_conv:.4f}"
    head = f"generation {generation.number:>3}   {generation.seconds:6.1f} s   {generation.steps:>12,} steps{gap}"
    print(head, file=sys.stderr)
    for member, matches in generation.matches.items():
        most = ", ".join(f"{'/'.join(p)} {w:.2f}" for p, w in matches[:4]) + (", …" if len(matches) > 4 else "")
        print(f"    {member:<20} won {generation.scores[member]:.3f} against {most}", file=sys.stderr)
    for team, mixture in generation.mixtures.items():
        played = sorted(mixture.items(), key=lambda x: -x[1])
        text = ", ".join(f"{n} {w:.2f}" for n, w in played[:5]) + (", …" if len(played) > 5 else "")
        print(f"    {team:<20} plays {text}", file=sys.stderr)
    sys.stderr.flush()


def _finished(run: Any, *, as_json: bool, quiet: bool) -> int:
    found = run.to_dict()
    if as_json:
        print_json(found)
    elif not quiet:
        _summary(found)
    return 0


def _summary(found: dict[str, Any]) -> None:
    where = f"{found['preset']} in {found['environment']}"
    print(f"{where}: generation {found['generation']}, {len(found['members'])} policies")
    for team, mixture in found["meta_strategy"].items():
        most = sorted(mixture.items(), key=lambda x: -x[1])[:8]
        print(f"  {team} plays " + ", ".join(f"{n} {w:.3f}" for n, w in most))
    if found["nash_conv"] is not None:
        print(f"  NashConv {found['nash_conv']:.4f}, exploitability (NashConv / players) {found['exploitability']:.4f}")
    best = sorted(found["ratings"]["elo"].items(), key=lambda x: -x[1])[:5]
    print("  Elo: " + ", ".join(f"{n} {r:+.0f}" for n, r in best))
    if found["run"]:
        print(f"league: {found['run']}")


@dataclass(frozen=True)
class _Resume:
    run: tyro.conf.Positional[Path]
    """The league's directory."""
    generations: int | None = None
    """Go on to this generation instead of the planned one."""
    json: bool = False
    """Print one JSON object at the end."""
    quiet: bool = False
    """Print nothing but errors."""


def _resume(arguments: list[str]) -> int:
    from ludus.experiment.league import resume_league

    given = parse(_Resume, arguments, "league resume")
    quiet = given.quiet or given.json
    with prints_to_stderr():
        run = resume_league(given.run, generations=given.generations, watch=None if quiet else _watch, say=_say)
    return _finished(run, as_json=given.json, quiet=given.quiet)


@dataclass(frozen=True)
class _Look:
    run: tyro.conf.Positional[Path]
    """The league's directory."""
    json: bool = False
    """Print one JSON object."""


def _status(arguments: list[str]) -> int:
    from ludus.experiment.league import open_league

    given = parse(_Look, arguments, "league status")
    with prints_to_stderr():
        run = open_league(given.run).begun()
        found = run.to_dict()
    if given.json:
        print_json(found)
        return 0
    _summary(found)
    for name, progress in run.league.progress.items():
        print(
            f"  {name}: {progress.generations} generations, {progress.steps:,} steps, "
            f"{run.league.population.frozen_by(name)} frozen, {progress.resets} resets"
        )
    left = f"of {run.config.settings.generations} generations; go on: ludus league resume {given.run}"
    print("finished" if run.league.done else left)
    return 0


def _payoffs(arguments: list[str]) -> int:
    from ludus.experiment.league import open_league

    given = parse(_Look, arguments, "league payoffs")
    with prints_to_stderr():
        league = open_league(given.run).begun().league
    rows: list[dict[str, Any]] = [
        {"profile": list(p), "games": c.games} | {k: getattr(c, k).tolist() for k in ("mean", "error", "score")}
        for p, c in league.table.cells.items()
    ]
    if given.json:
        cells = [row | {"games": _finite(row["games"])} for row in rows]
        print_json({"teams": list(league.arena.spec.teams), "cells": cells})
        return 0
    for row in rows:
        means = ", ".join(f"{m:+.3f} ± {1.96 * e:.3f}" for m, e in zip(row["mean"], row["error"], strict=True))
        print(f"{' / '.join(row['profile']):<40} {row['games']:>10,.0f} games   return per team {means}")
    return 0


def _finite(x: float) -> float | None:
    """JSON has no infinity: None stands for exact payoffs."""
    return None if x == float("inf") else x


def _ratings(arguments: list[str]) -> int:
    from ludus.experiment.league import open_league

    given = parse(_Look, arguments, "league ratings")
    with prints_to_stderr():
        found = open_league(given.run).begun().ratings()
    if given.json:
        print_json(found)
        return 0
    kinds = list(found)
    print(f"{'policy':<28}" + "".join(f"{k.replace('_', ' '):>16}" for k in kinds))
    for name in sorted(found["elo"], key=lambda n: -found["elo"][n]):
        print(f"{name:<28}" + "".join(f"{found[k].get(name, float('nan')):>16.4f}" for k in kinds))
    return 0


@dataclass(frozen=True)
class _Between:
    run: tyro.conf.Positional[Path]
    """The league's directory."""
    own: tyro.conf.Positional[str]
    """A frozen policy, as `ludus league ratings` names it."""
    other: tyro.conf.Positional[str]
    """Another."""
    episodes: int = 1000
    """Episodes of each seating."""
    seed: int = 0
    """Fixes the episodes."""
    json: bool = False
    """Print one JSON object."""


def _match(arguments: list[str]) -> int:
    from ludus.experiment.league_results import match

    given = parse(_Between, arguments, "league match")
    with prints_to_stderr():
        found = match(given.run, given.own, given.other, episodes=given.episodes, seed=given.seed)
    return show_match(found, as_json=given.json)


def show_match(found: dict[str, Any], *, as_json: bool) -> int:
    """Print what a match between two members came to."""
    if as_json:
        print_json(found)
        return 0
    for row in found["seatings"]:
        low, high = row["interval"]
        print(
            f"{' / '.join(row['profile'])}: return of {found['own']} {row['return']:+.4f}, 95 % interval "
            f"[{low:+.4f}, {high:+.4f}], won {row['score']:.3f} (draws half) of {row['games'] or 'all'} games"
        )
    return 0


@dataclass(frozen=True)
class _BestResponse:
    run: tyro.conf.Positional[Path]
    """The league's directory."""
    oracle: str | None = None
    """Who learns the best response (default: as in the league); `exact` in compiled games."""
    steps: int = 1_000_000
    """Environment steps of training, for each role."""
    against: Literal["meta", "last"] | str = "meta"
    """The meta-strategy, the newest policy of each role, or a policy's name."""
    episodes: int = 2000
    """Episodes that measure it."""
    seed: int = 0
    """Fixes everything random."""
    json: bool = False
    """Print one JSON object."""


def best_response(arguments: list[str]) -> int:
    """`ludus best-response RUN`."""
    from ludus.experiment.league_results import best_response as respond

    given = parse(_BestResponse, arguments, "best-response")
    settings = {k: v for k, v in dataclasses.asdict(given).items() if k not in ("run", "json")}
    with prints_to_stderr():
        found = respond(given.run, **settings)
    if given.json:
        print_json(found)
        return 0
    for team, row in found["teams"].items():
        print(
            f"{team}: the best response earns {row['best_response']:+.4f} ± {1.96 * row['error']:.4f}, the strategy "
            f"{row['strategy']:+.4f}: gains {row['gain']:+.4f}"
        )
    print(
        f"exploitability (NashConv / players) is at least {found['exploitability']:.4f}"
        + ("" if found["exact_exploitability"] is None else f"; exactly {found['exact_exploitability']:.4f}")
    )
    return 0
