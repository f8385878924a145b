"""What JaxMARL's suites share: dictionaries by agent become arrays by group."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array

from ludus.core.spaces import Box, Discrete, Space
from ludus.core.spec import GameSpec, GroupSpec
from ludus.envs.parts import import_part

jaxmarl_spaces: Any = import_part("jaxmarl.environments.spaces")


@dataclass(frozen=True)
class Members:
    """A group and the suite's names of its agents, in order."""

    spec: GroupSpec
    agents: tuple[str, ...]


def space_of(space: Any) -> Space:
    """A JaxMARL space as ours; continuous actions keep their bounds if they are single numbers."""
    if isinstance(space, jaxmarl_spaces.Discrete):
        return Discrete(int(space.n))
    shape = space.shape if isinstance(space.shape, tuple) else (int(space.shape),)
    if isinstance(space, jaxmarl_spaces.MultiDiscrete):
        return Box(shape, 0.0, float(space.num_categories.max() - 1))
    low, high = jnp.min(jnp.asarray(space.low)), jnp.max(jnp.asarray(space.high))
    return Box(tuple(int(n) for n in shape), float(low), float(high))


def group(env: Any, name: str, team: str, agents: list[str], **fields: Any) -> Members:
    """A group of agents with the spaces of the first."""
    first = agents[0]
    observation = space_of(env.observation_space(first))
    assert isinstance(observation, Box)
    return Members(
        GroupSpec(
            name,
            len(agents),
            observation,
            space_of(env.action_space(first)),
            team,
            **{"slots": len(agents), **fields},
        ),
        tuple(agents),
    )


def stack(values: dict[str, Array], members: tuple[Members, ...]) -> dict[str, Array]:
    """By agent to by group."""
    return {m.spec.name: jnp.stack([values[agent] for agent in m.agents]) for m in members}


def stack_rewards(values: dict[str, Array], members: tuple[Members, ...]) -> dict[str, Array]:
    """By agent to by group, as reals; some suites pay in integers."""
    return {m.spec.name: jnp.stack([jnp.asarray(values[a], jnp.float32) for a in m.agents]) for m in members}


def unstack(actions: dict[str, Array], members: tuple[Members, ...]) -> dict[str, Array]:
    """By group to by agent; continuous actions are clipped to their bounds."""
    by_agent = {}
    for m in members:
        rows = actions[m.spec.name]
        space = m.spec.action
        if isinstance(space, Box):
            rows = jnp.clip(rows, jnp.asarray(space.low), jnp.asarray(space.high))
        by_agent.update({agent: rows[i] for i, agent in enumerate(m.agents)})
    return by_agent


def all_act(spec: GameSpec) -> dict[str, Array]:
    """Everyone moves."""
    return {g.name: jnp.ones(g.size, bool) for g in spec.groups}


def no_reward(spec: GameSpec) -> dict[str, Array]:
    """Zero for everyone, as at a reset."""
    return {g.name: jnp.zeros(g.size) for g in spec.groups}
