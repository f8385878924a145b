"""`ludus COMMAND …`."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from ludus.cli.parse import parse
from ludus.core.errors import NotFiniteError, UsageError, unknown
from ludus.core.output import prints_to_stderr

USAGE = """usage: ludus COMMAND [arguments]        (ludus COMMAND --help explains each)

  list        list environments | list algorithms | list presets
  describe    describe ENVIRONMENT: groups, teams, spaces, horizon
  train       train ALGORITHM ENVIRONMENT [--steps N] [--seed S] [--seeds K] …
  resume      resume RUN: continue an interrupted run
  evaluate    evaluate RUN [--episodes N] [--against RUN2|random] [--json]
  report      report RUN [RUN …]: curves, tables, one HTML page
  render      render RUN: one episode as GIF or SVG
  solve       solve GAME [--method M] [--iterations N] [--target-exploitability X] [--json]
"""


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code: 0 done, 1 failed, 2 wrong usage, 130 interrupted."""
    arguments = sys.argv[1:] if arguments is None else arguments
    commands = _commands()
    if not arguments or arguments[0] in ("-h", "--help"):
        print(USAGE, file=sys.stdout if arguments else sys.stderr)
        return 0 if arguments else 2
    if arguments[0] == "--version":
        from ludus import __version__

        print(f"ludus {__version__}")
        return 0
    try:
        if arguments[0] not in commands:
            raise unknown("command", arguments[0], commands)
        return commands[arguments[0]](arguments[1:])
    except UsageError as error:
        return _fail(str(error), 2)
    except NotFiniteError as error:
        return _fail(str(error), 1)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        from ludus.experiment.interrupt import Interrupted
        from ludus.storage.arrays import DamagedFileError

        if isinstance(error, Interrupted):
            return _leave(error.code, error.run)
        if isinstance(error, DamagedFileError):
            return _fail(str(error), 2)
        raise


def _fail(text: str, code: int) -> int:
    print(f"ludus: {text}", file=sys.stderr)
    return code


def _leave(code: int, run: str) -> int:
    """End although a device program may still run in its thread."""
    print(f"ludus: stopped; the newest checkpoint is kept, go on with: ludus resume {run}", file=sys.stderr, flush=True)
    sys.stdout.flush()
    os._exit(code)


def _commands() -> dict[str, Callable[[list[str]], int]]:
    return {
        "list": list_command,
        "describe": describe,
        "train": train,
        "resume": resume,
        "evaluate": evaluate,
        "report": report,
        "render": render,
        "solve": solve,
    }


def _print_json(value: Any) -> None:
    print(json.dumps(value), flush=True)


# --- list, describe -------------------------------------------------------------------------------------------------


def list_command(arguments: list[str]) -> int:
    """`ludus list environments|algorithms|presets [--json]`."""
    from ludus.algorithms.registry import ALGORITHMS
    from ludus.envs.registry import available
    from ludus.experiment.config import presets

    if "-h" in arguments or "--help" in arguments:
        print("usage: ludus list environments|algorithms|presets [--json]")
        return 0
    words = [a for a in arguments if a != "--json"]
    what = words[0] if words else "environments"
    tables: dict[str, Callable[[], Any]] = {
        "environments": available,
        "algorithms": lambda: {name: (kind.__doc__ or "").split("\n")[0] for name, kind in ALGORITHMS.items()},
        "presets": presets,
    }
    if what not in tables or len(words) > 1:
        raise unknown("list", " ".join(words), tables)
    found = tables[what]()
    if "--json" in arguments:
        _print_json(found)
        return 0
    for name, value in found.items():
        if isinstance(value, str):
            print(f"{name:<14} {value}")
        else:
            print(f"{name} ({len(value)})")
            for game in value:
                print(f"  {game}")
    return 0


@dataclass(frozen=True)
class _Describe:
    environment: tyro.conf.Positional[str]
    """Its name, like mpe/simple_spread."""
    json: bool = False
    """Print one JSON object."""


def describe(arguments: list[str]) -> int:
    """`ludus describe ENVIRONMENT`."""
    from ludus.core.spaces import describe as space
    from ludus.envs.registry import make, options_of

    given = parse(_Describe, arguments, "describe")
    spec = make(given.environment).spec
    found = {
        "name": spec.name,
        "turns": spec.turns,
        "reward": spec.reward,
        "teams": list(spec.teams),
        "symmetric": spec.symmetric,
        "horizon": spec.horizon,
        "ends_by_time_limit": spec.truncates,
        "state": None if spec.state is None else space(spec.state),
        "groups": {
            g.name: {
                "agents": g.size,
                "team": list(g.teams) if g.rivals else g.team,
                "observation": space(g.observation),
                "action": space(g.action),
                "legal_action_mask": g.masked,
            }
            for g in spec.groups
        },
        "options": {
            k: v if isinstance(v, int | float | str | bool | None) else str(v)
            for k, v in options_of(given.environment).items()
        },
    }
    if given.json:
        _print_json(found)
        return 0
    for key, value in found.items():
        if isinstance(value, dict):
            print(f"{key}:")
            for name, x in value.items():
                shown = ", ".join(f"{k}: {v}" for k, v in x.items()) if isinstance(x, dict) else x
                print(f"  {name:<16} {shown}")
        else:
            print(f"{key:<20} {value}")
    return 0


# --- train, resume --------------------------------------------------------------------------------------------------


def train(arguments: list[str]) -> int:
    """`ludus train ALGORITHM ENVIRONMENT [flags]`."""
    from ludus.cli.flags import parse_train
    from ludus.experiment.api import run_config
    from ludus.experiment.console import display
    from ludus.runtime.setup import configure

    given = parse_train(arguments)
    configure()
    if given.dry_run:
        return _dry_run(given)
    with prints_to_stderr():
        run = run_config(given.config, given.run_dir, display(quiet=given.quiet or given.json))
    return _trained(run, as_json=given.json, quiet=given.quiet)


def _trained(run: Any, *, as_json: bool, quiet: bool) -> int:
    last = {row["seed"]: {k: v for k, v in row.items() if k not in ("returns", "lengths")} for row in run.evaluations}
    if as_json:
        _print_json({"run": str(run.path), "steps": run.history[-1]["steps"], "evaluations": list(last.values())})
    elif not quiet:
        for seed, row in last.items():
            means = ", ".join(
                f"{g} {m:.3f} [{row['interval'][g][0]:.3f}, {row['interval'][g][1]:.3f}]"
                for g, m in row["mean_return"].items()
            )
            rates = "".join(
                f", {k.replace('_', ' ')} {row[k]:.3f}" for k in ("win_rate", "draw_rate", "loss_rate") if k in row
            )
            versus = f" against {row['against']} play" if row["against"] else ""
            print(
                f"seed {seed}: return per agent{versus} (mean of {row['episodes']} episodes, 95 % interval): "
                f"{means}{rates}"
            )
        print(f"run: {run.path}")
    return 0


def _dry_run(given: Any) -> int:
    from ludus.envs.registry import make
    from ludus.experiment.train import program_of

    config, origin = given.config, given.origin
    env = make(config.environment, **config.options)
    program = program_of(config, env)
    if given.json:
        found = {"config": config.to_dict(), "origin": origin, "devices": program.devices, "bytes": program.bytes}
        _print_json(found)
        return 0
    for path, value in _flat(config.to_dict()):
        print(f"{path:<34} {value!s:<24} {origin.get(path, 'default')}")
    print(
        f"{program.calls * program.steps_per_call:,} steps in {program.calls * program.iterations_per_call:,} "
        f"iterations of {program.steps_per_iteration:,}, on {program.devices} device(s)"
    )
    kept = f", {_size(program.bytes['experience'])} of them experience" if program.bytes["experience"] else ""
    print(f"{_size(program.bytes['all'])} of memory for the state of training{kept}")
    return 0


def _size(amount: float) -> str:
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if amount < 1024 or unit == "GiB":
            break
        amount /= 1024
    return f"{amount:,.0f} {unit}" if unit == "bytes" else f"{amount:,.1f} {unit}"


def _flat(tree: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for key, value in tree.items():
        rows += _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else [(f"{prefix}{key}", value)]
    return rows


@dataclass(frozen=True)
class _Resume:
    run: tyro.conf.Positional[Path]
    """The run's directory."""
    json: bool = False
    """Print one JSON object at the end."""
    quiet: bool = False
    """Print nothing but errors."""


def resume(arguments: list[str]) -> int:
    """`ludus resume RUN`."""
    from ludus.experiment import api
    from ludus.experiment.console import display

    given = parse(_Resume, arguments, "resume")
    with prints_to_stderr():
        run = api.resume(given.run, display=display(quiet=given.quiet or given.json))
    return _trained(run, as_json=given.json, quiet=given.quiet)


# --- evaluate, report, render ---------------------------------------------------------------------------------------


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
    """Another run's directory, or `random`: play each team in turn against it."""
    json: bool = False
    """Print one JSON object."""
    raw: bool = False
    """With --json: every episode's return too."""


def evaluate(arguments: list[str]) -> int:
    """`ludus evaluate RUN`."""
    from ludus.experiment import api

    given = parse(_Evaluate, arguments, "evaluate")
    if given.explore and given.greedy:
        raise UsageError("--explore and --greedy exclude each other")
    if given.episodes < 1:
        raise UsageError(f"--episodes must be at least 1, not {given.episodes}")
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
        _print_json(results[0] if len(results) == 1 else {"seeds": {first + k: r for k, r in enumerate(results)}})
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
    from ludus.experiment.report import write_report

    given = parse(_Report, arguments, "report")
    if not given.runs:
        raise UsageError("report needs at least one run")
    found = write_report(list(given.runs), given.out)
    if given.json:
        _print_json(found)
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


def render(arguments: list[str]) -> int:
    """`ludus render RUN`."""
    from ludus.experiment.render import render_run

    given = parse(_Render, arguments, "render")
    with prints_to_stderr():
        path = render_run(given.run, given.out, seed=given.seed, explore=given.explore)
    print(path)
    return 0


def solve(arguments: list[str]) -> int:
    """`ludus solve GAME`, or `ludus solve --list`."""
    from ludus.cli.solve import Solve, run

    if arguments == ["--list"]:
        from ludus.experiment.solve import METHODS

        print("\n".join(METHODS))
        return 0
    return run(parse(Solve, arguments, "solve"))


if __name__ == "__main__":
    sys.exit(main())
