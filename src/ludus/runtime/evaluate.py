"""Evaluation: many episodes at once, each environment playing exactly one, so that short ones do not count double."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from ludus.core.game import Environment
from ludus.runtime.cast import Pairing
from ludus.runtime.rollout import Actors, Policies, init_actors, players
from ludus.runtime.setup import compiler_options

BATCH = 512  # episodes at once
ENDLESS = 20_000  # steps after which an episode of unknown horizon is given up


@dataclass(frozen=True)
class Results:
    """Raw outcomes, one row an episode."""

    returns: dict[str, np.ndarray]  # [episode, agent]
    length: np.ndarray  # [episode]
    finished: np.ndarray  # [episode]: False where an episode was given up


class _Run(eqx.Module):
    actors: Actors
    running: Bool[Array, " env"]
    time: Int[Array, ""]


def play(
    env: Environment, policies: Policies, key: Key[Array, " env"], *, explore: bool, pairing: Pairing | None = None
) -> tuple[dict[str, Float[Array, "env agent"]], Int[Array, " env"], Bool[Array, " env"]]:
    """Play one episode in every environment: returns per agent, lengths, and whether each one ended.

    Where `policies` are a cast, `pairing` says who plays in which environment.
    """
    groups, cast = env.spec.groups, players(policies)
    paired: Any = pairing
    limit = env.spec.horizon or ENDLESS

    def step(run: _Run) -> _Run:
        actors = run.actors
        keys = jax.vmap(lambda k: jax.random.split(k, 2 + len(groups)))(actors.key)
        decisions = {
            g.name: cast.decide(g, actors.step, actors.memory[g.name], keys[:, 2 + i], paired, explore)
            for i, g in enumerate(groups)
        }
        actions = {name: d.action for name, d in decisions.items()}
        state, now = jax.vmap(env.step)(keys[:, 1], actors.env, actions)
        state, now = jax.tree.map(lambda new, old: jnp.asarray(new, old.dtype), (state, now), (actors.env, actors.step))
        alive = run.running
        gain = lambda name: jnp.where(alive[:, None], now.reward[name], 0.0)
        actors = Actors(
            env=state,
            step=now,
            memory={name: d.memory for name, d in decisions.items()},
            key=keys[:, 0],
            start=jnp.zeros_like(actors.start),
            returns={name: total + gain(name) for name, total in actors.returns.items()},
            length=actors.length + alive,
            pairing=actors.pairing,
        )
        return _Run(actors, alive & ~now.done, run.time + 1)

    first = init_actors(env, policies, key)
    if pairing is not None:
        first = replace(first, pairing=pairing)
    run = _Run(first, jnp.ones(key.shape[0], bool), jnp.asarray(0))
    run = jax.lax.while_loop(lambda r: r.running.any() & (r.time < limit), step, run)
    return run.actors.returns, run.actors.length, ~run.running


class Evaluator:
    """Plays policies of one structure in one game; compiled once for each structure and way to act."""

    def __init__(self, env: Environment):
        self.env = env
        self._play = jax.jit(
            lambda policies, key, explore: play(self.env, policies, key, explore=explore),
            static_argnums=2,
            compiler_options=compiler_options(),
        )

    def __call__(self, policies: dict[str, Any], episodes: int, key: Key[Array, ""], *, explore: bool) -> Results:
        """`episodes` episodes; episode e depends on `key` and e alone."""
        keys = jax.random.split(key, episodes)
        parts = []
        for begin in range(0, episodes, BATCH):
            block = keys[begin : begin + BATCH]
            missing = min(BATCH, episodes) - block.shape[0]  # pad the last block: one compiled size
            padded = jnp.concatenate([block, keys[:missing]]) if missing else block
            out = jax.tree.map(np.asarray, self._play(policies, padded, explore))
            parts.append(jax.tree.map(lambda x, n=block.shape[0]: x[:n], out))
        joined = jax.tree.map(lambda *xs: np.concatenate(xs), *parts)
        return Results(*joined)
