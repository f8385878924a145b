"""`ludus train` and `ludus resume`."""

from __future__ import annotations

import importlib
import threading
import tomllib
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import tyro

from ludus.cli.output import print_json
from ludus.cli.parse import parse
from ludus.core.errors import unknown
from ludus.core.output import prints_to_stderr


def train(arguments: list[str]) -> int:
    """`ludus train ALGORITHM ENVIRONMENT [flags]`."""
    from ludus.cli.flags import parse_train
    from ludus.experiment.api import run_config
    from ludus.experiment.console import display
    from ludus.runtime.setup import configure

    configure()  # before suites are imported: they use JAX at once, which then keeps the devices it has
    given = parse_train(arguments)
    if given.dry_run:
        return _dry_run(given)
    with prints_to_stderr():
        run = run_config(given.config, given.run_dir, display(quiet=given.quiet or given.json))
    return _trained(run, as_json=given.json, quiet=given.quiet)


def _trained(run: Any, *, as_json: bool, quiet: bool) -> int:
    last = {row["seed"]: {k: v for k, v in row.items() if k not in ("returns", "lengths")} for row in run.evaluations}
    if as_json:
        print_json({"run": str(run.path), "steps": run.history[-1]["steps"], "evaluations": list(last.values())})
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
        print_json(found)
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
class _Status:
    address: str = ""
    """Of the cluster (RAY_ADDRESS otherwise); empty: the one on this machine."""
    json: bool = False
    """Print one JSON object."""


def cluster(arguments: list[str]) -> int:
    """`ludus cluster status`."""
    if arguments[:1] != ["status"]:
        raise unknown("cluster command", " ".join(arguments[:1]), ["status"])
    from ludus.runtime.ray.cluster import status

    given = parse(_Status, arguments[1:], "cluster status")
    found = status(given.address)
    if given.json:
        print_json(found)
        return 0
    print(f"{found['nodes']} node(s): " + ", ".join(f"{n:g} {k}" for k, n in sorted(found["resources"].items())))
    for name, run in found["runs"].items():
        print(f"{name}: {run['environment']}")
        for key in ("roles", "steps_per_second", "queue_depths", "updates", "policy_lag", "restarts"):
            print(f"  {key:<18} {run[key]}")
    if not found["runs"]:
        print("nothing trains here")
    return 0


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
    given = parse(_Resume, arguments, "resume")
    _connect_ahead(given.run)

    from ludus.experiment import api
    from ludus.experiment.console import display

    with prints_to_stderr():
        run = api.resume(given.run, display=display(quiet=given.quiet or given.json))
    return _trained(run, as_json=given.json, quiet=given.quiet)


def _connect_ahead(run: Path) -> None:
    """Begin the cluster of a run that had one while a thread imports JAX and the rest: both take seconds."""
    try:
        settings = tomllib.loads((run / "config.toml").read_text())["settings"]
        roles = {name: int(settings[name]) for name in ("actors", "learners", "inference_servers", "evaluators")}
        where = SimpleNamespace(address=str(settings["address"]), **roles)
        if settings["runtime"] != "ray" or min(roles.values()) < 0:
            return
    except (OSError, ValueError, LookupError, TypeError):
        return  # whoever reads the file next says what is wrong with it
    from ludus.runtime.ray.cluster import connect, ray

    ray()  # before the thread, so that no two import at once
    threading.Thread(target=importlib.import_module, args=("ludus.experiment.api",), daemon=True).start()
    connect(where)
