"""`ludus list` and `ludus describe`: what there is to play."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import tyro

from ludus.cli.output import print_json
from ludus.cli.parse import parse
from ludus.core.errors import unknown


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
        print_json(found)
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


@dataclass(frozen=True)
class _Check:
    environment: tyro.conf.Positional[str]
    """Its name, like pettingzoo/classic/connect_four-v3, or module:function."""
    steps: int = 500
    """How many steps to play at random."""
    seed: int = 0
    """Fixes the play."""
    json: bool = False
    """Print one JSON object."""


def check_env(arguments: list[str]) -> int:
    """`ludus check-env ENVIRONMENT`."""
    from ludus.experiment.check_env import check

    given = parse(_Check, arguments, "check-env")
    found = check(given.environment, given.steps, given.seed)
    if given.json:
        print_json(found)
    else:
        for line in found["found"]:
            print(line)
        print(f"{given.environment}: " + ("nothing is wrong" if found["fine"] else "not fit to be trained in"))
    return 0 if found["fine"] else 1


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
        print_json(found)
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
