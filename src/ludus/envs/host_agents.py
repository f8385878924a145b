"""Named agents of other people's games as groups: who stands where on which axis, and in which team."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ludus.core.errors import UsageError
from ludus.core.spaces import Box, Discrete, Space
from ludus.core.spec import GameSpec, GroupSpec, RewardKind, TurnKind
from ludus.envs.host_spaces import Deed, Sight

Teams = Literal["auto", "one", "each", "by-name"]


@dataclass(frozen=True)
class Agents:
    """Which agents a game has, by group; `place` says where one stands."""

    groups: tuple[GroupSpec, ...]
    members: dict[str, tuple[str, ...]]  # of each group, in order

    @property
    def place(self) -> dict[str, tuple[str, int]]:
        """The group and the row of every agent."""
        return {agent: (name, i) for name, agents in self.members.items() for i, agent in enumerate(agents)}


def gather(
    agents: list[str],
    look: Callable[[str], tuple[Sight, Deed]],
    masked: Callable[[str], bool],
    teams: Literal["one", "each", "by-name"],
    sequential: bool,
) -> Agents:
    """Groups of agents that share the stem of their names (`red` of `red_3`), their spaces and their team."""
    found: dict[tuple[Any, ...], list[str]] = {}
    for agent in agents:
        seen, done = look(agent)
        found.setdefault((stem(agent), seen.space, done.space), []).append(agent)
    stems = [key[0] for key in found]
    groups, members = [], {}
    for (name, observation, action), own in found.items():
        if stems.count(name) > 1:  # the same stem, but other spaces: groups of their own
            name = own[0]
        rivals = teams == "each" and len(own) > 1
        team = {"one": "team", "each": name, "by-name": name}[teams]
        slots = 1 if sequential else len(own)
        groups.append(
            GroupSpec(name, len(own), observation, action, team, slots, masked=any(map(masked, own)), rivals=rivals)
        )
        members[name] = tuple(own)
    return Agents(tuple(groups), members)


def stem(agent: str) -> str:
    """A name without its number."""
    return re.sub(r"[_-]?\d+$", "", str(agent)) or str(agent)


def unknown_agents(count: int, observation: int, actions: int) -> Agents:
    """One group of so many places for agents that are not known beforehand; all are one team."""
    if min(count, observation, actions) < 1:
        raise UsageError(
            "this game does not say beforehand which agents it has (possible_agents): say how many may live at once "
            "(places), how long observations (width) and how many actions (choices) may become"
        )
    space: Space = Discrete(actions)
    group = GroupSpec("agents", count, Box((observation,)), space, "team", count, masked=True)
    return Agents((group,), {})


def padded(row: np.ndarray, width: int) -> np.ndarray:
    """A flat observation with zeros behind it. Raises `ValueError` for one that is too long."""
    flat = row.reshape(-1)
    if flat.size > width:
        raise ValueError(f"an observation has {flat.size} entries, and width is {width}")
    return np.concatenate([flat, np.zeros(width - flat.size, np.float32)])


def team_rewards(spec: GameSpec, reward: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Every agent's reward as the mean over its team."""
    shared = {}
    for group in spec.groups:
        mates = [reward[g.name] for g in spec.groups if g.team == group.team]
        shared[group.name] = np.full_like(reward[group.name], np.concatenate(mates).mean())
    return shared


def specification(
    name: str, agents: Agents, state: np.ndarray | None, rewards: RewardKind, turns: TurnKind
) -> GameSpec:
    """The game of these agents; ends by time limits are always possible."""
    same = len(agents.groups) == 1
    box = None if state is None else Box(state.shape)
    return GameSpec(name, agents.groups, rewards, turns, state=box, symmetric=same, truncates=True)
