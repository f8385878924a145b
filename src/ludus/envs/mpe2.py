"""The multi-agent particle environments as their own package keeps them, stepped on the host: `mpe2/NAME`."""

from __future__ import annotations

from typing import Any, Literal

from ludus.core.host import HostEnvironment
from ludus.envs.host_agents import Teams
from ludus.envs.pettingzoo import build, listed

NAMES = listed("mpe2")


def make(
    name: str,
    *,
    teams: Teams = "auto",
    reward: Literal["own", "team"] = "own",
    turns: Literal["auto", "together", "one-by-one"] = "auto",
    pictures: bool = False,
    arguments: str = "",
) -> HostEnvironment:
    """A game by its module; options as of `ludus.envs.pettingzoo.make`."""
    options: Any = {"teams": teams, "reward": reward, "turns": turns, "pictures": pictures, "arguments": arguments}
    return build("mpe2", name, f"mpe2/{name}", **options)
