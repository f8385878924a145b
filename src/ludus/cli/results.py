"""`ludus evaluate`, `ludus report` and `ludus render`: what became of a run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from ludus.cli.output import print_json
from ludus.cli.parse import parse
from ludus.core.errors import UsageError
from ludus.core.output import prints_to_stderr


@dataclass(frozen=True)
class _Evaluate:
    run: tyro.conf.Positional[Path]
    """The run's directory."""
    episodes: int = 100
    """How many episodes."""
    seed: int = 0
    """Fixes the episodes."""
    explore: Annotated[bool, tyro.conf.arg(help="Sample actions.")] = False
    greedy: Annotated[bool, tyro.conf.arg(help="Take the most likely action (the default).")] = False
    against: str | None = None
    """Another run's directory, or `random`: play each team in turn against it. Of a league: another member."""
    member: str | None = None
    """Of a league: which frozen policy is evaluated (default: the newest)."""
    json: bool = False
    """Print one JSON object."""
    raw: bool = False
    """With --json: every episode's return too."""


def evaluate(arguments: list[str]) -> int:
    """`ludus evaluate RUN`."""
    from ludus.experiment import api
    from ludus.experiment.league import is_league

    given = parse(_Evaluate, arguments, "evaluate")
    if given.explore and given.greedy:
        raise UsageError("--explore and --greedy exclude each other")
    if given.episodes < 1:
        raise UsageError(f"--episodes must be at least 1, not {given.episodes}")
    if is_league(given.run):
        return _evaluate_members(given)
    if given.member is not None:
        raise UsageError(f"{given.run} is no league, so it has no members")
    with prints_to_stderr():
        run = api.load(given.run)
        results = [
            api.evaluate(
                policies,
                run.config.environment,
                options=run.config.options,
                episodes=given.episodes,
                seed=given.seed,
                explore=given.explore,
                against=given.against,
            ).to_dict(raw=given.raw)
            for policies in run.policies
        ]
    first = run.config.settings.seed
    if given.json:
        print_json(results[0] if len(results) == 1 else {"seeds": {first + k: r for k, r in enumerate(results)}})
        return 0
    for k, result in enumerate(results):
        print(f"seed {first + k}: {result['episodes']} episodes, mean length {result['mean_length']:.1f}")
        for name, mean in result["mean_return"].items():
            low, high = result["interval"][name]
            print(f"  {name}: return per agent {mean:.3f}, 95 % interval [{low:.3f}, {high:.3f}]")
        for rate in ("win_rate", "draw_rate", "loss_rate"):
            if rate in result:
                print(f"  {rate.replace('_', ' ')} {result[rate]:.3f}")
    return 0


def _evaluate_members(given: _Evaluate) -> int:
    from ludus.cli.league import show_match
    from ludus.experiment.league_results import match, newest_two

    with prints_to_stderr():
        own, other = newest_two(given.run, given.member, given.against)
        found = match(given.run, own, other, episodes=given.episodes, seed=given.seed)
    return show_match(found, as_json=given.json)


@dataclass(frozen=True)
class _Report:
    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Directories of runs to compare."""
    out: Path | None = None
    """Where the report goes (default: `report/` in the first run)."""
    json: bool = False
    """Print one JSON object."""


def report(arguments: list[str]) -> int:
    """`ludus report RUN [RUN …]`."""
    from ludus.experiment.league import is_league
    from ludus.experiment.league_report import write_league_report
    from ludus.experiment.report import write_report

    given = parse(_Report, arguments, "report")
    if not given.runs:
        raise UsageError("report needs at least one run")
    leagues = [path for path in given.runs if is_league(path)]
    if leagues and len(given.runs) > 1:
        raise UsageError(f"{leagues[0]} holds a league, which has a report of its own: name it alone")
    found = write_league_report(leagues[0], given.out) if leagues else write_report(list(given.runs), given.out)
    if given.json:
        print_json(found)
    else:
        print(found["text"])
        print(f"report: {found['page']}")
    return 0


@dataclass(frozen=True)
class _Render:
    run: tyro.conf.Positional[Path]
    """The run's directory."""
    out: Path | None = None
    """The file to write (default: `episode.gif` or `.svg` in the run)."""
    seed: int = 0
    """Fixes the episode."""
    explore: bool = False
    """Sample actions."""
    member: str | None = None
    """Of a league: who plays the first team (default: the newest that can)."""
    against: str | None = None
    """Of a league: who plays the other teams."""


def render(arguments: list[str]) -> int:
    """`ludus render RUN`."""
    from ludus.experiment.league import is_league
    from ludus.experiment.league_results import render_members
    from ludus.experiment.render import render_run

    given = parse(_Render, arguments, "render")
    with prints_to_stderr():
        if is_league(given.run):
            path = render_members(given.run, given.member, given.against, given.out, given.seed, given.explore)
        elif given.member or given.against:
            raise UsageError(f"{given.run} is no league, so it has no members")
        else:
            path = render_run(given.run, given.out, seed=given.seed, explore=given.explore)
    print(path)
    return 0
