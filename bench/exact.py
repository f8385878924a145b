"""Exact methods against OpenSpiel (and pgx), side by side in one process.

    python bench/exact.py [--pairs 5] [--json FILE]

Each row alternates peer and Ludus `pairs` times and reports medians and their ratio; compilation is left out.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pyspiel
from open_spiel.python import policy as spiel_policy
from open_spiel.python import rl_environment
from open_spiel.python.algorithms import exploitability, fictitious_play

import ludus
from ludus.equilibria import exact
from ludus.equilibria.cfr import CFR
from ludus.equilibria.fictitious_play import XFP
from ludus.equilibria.sequence_form import sequence_form
from ludus.runtime.setup import configure

Timed = Callable[[], float]  # runs once and returns a rate


def rate(work: Callable[[], Any], amount: float) -> float:
    begin = time.perf_counter()
    work()
    return amount / (time.perf_counter() - begin)


def solver(game: Any, method: Any, iterations: int) -> Timed:
    """Iterations a second of a Ludus solver."""
    loop = jax.jit(lambda n, s: jax.lax.fori_loop(0, n, lambda _, x: method.step(game, x), s))
    state = jax.block_until_ready(loop(jnp.asarray(1), method.init(game)))
    count = jnp.asarray(iterations)
    return lambda: rate(lambda: jax.block_until_ready(loop(count, state)), iterations)


def repeated(step: Callable[[], Any], times: int) -> Timed:
    """Calls a second."""

    def work() -> None:
        for _ in range(times):
            step()

    return lambda: rate(work, times)


def spiel_steps(name: str, decisions: int = 30_000) -> Timed:
    """Decisions a second of OpenSpiel's `rl_environment` under random play."""
    env = rl_environment.Environment(name)
    rng = np.random.default_rng(0)

    def work() -> None:
        step = env.reset()
        for _ in range(decisions):
            if step.last():
                step = env.reset()
            legal = step.observations["legal_actions"][step.observations["current_player"]]
            step = env.step([legal[int(rng.random() * len(legal))]])

    return lambda: rate(work, decisions)


def random_steps(env: Any, num_envs: int = 4096, steps: int = 256) -> Timed:
    """Environment steps a second of a device-native game under random play, auto-reset included.

    The environments are split over this machine's XLA devices.
    """
    from jax.sharding import Mesh
    from jax.sharding import PartitionSpec as P

    devices = jax.devices()
    own = num_envs // len(devices)

    def play(keys: Any) -> Any:
        key = keys[0]
        state, step = jax.vmap(env.reset)(jax.random.split(key, own))

        def body(carry: Any, key: Any) -> Any:
            state, step = carry
            key_action, key_step, key_reset = jax.random.split(key, 3)
            legal = step.legal["players"][:, 0]
            total = jnp.cumsum(legal, 1)
            drawn = jax.random.uniform(key_action, (own, 1)) * total[:, -1:]
            action = jnp.argmax(total > drawn, 1)
            state, step = jax.vmap(env.step)(jax.random.split(key_step, own), state, {"players": action[:, None]})
            fresh = jax.vmap(env.reset)(jax.random.split(key_reset, own))
            done = step.done
            choose = lambda new, old: jnp.where(done.reshape(-1, *[1] * (old.ndim - 1)), new, old)
            reward = step.reward["players"].sum()
            return jax.tree.map(choose, fresh, (state, step)), reward

        return jax.lax.scan(body, (state, step), jax.random.split(key, steps))[1].sum()[None]

    mesh = Mesh(np.array(devices), ("env",))
    program = jax.jit(jax.shard_map(play, mesh=mesh, in_specs=P("env"), out_specs=P("env"), check_vma=False))
    keys = jax.random.split(jax.random.key(0), len(devices))
    jax.block_until_ready(program(keys))
    return lambda: rate(lambda: jax.block_until_ready(program(keys)), num_envs * steps)


def pgx_steps(name: str, num_envs: int = 4096, steps: int = 256) -> Timed:
    """The same for a pgx game, with pgx's own auto-reset."""
    import pgx
    from pgx.experimental import auto_reset

    env = pgx.make(name)
    step = jax.vmap(auto_reset(env.step, env.init))

    @jax.jit
    def play(key: Any) -> Any:
        state = jax.vmap(env.init)(jax.random.split(key, num_envs))

        def body(state: Any, key: Any) -> Any:
            key_action, key_step = jax.random.split(key)
            total = jnp.cumsum(state.legal_action_mask, 1)
            drawn = jax.random.uniform(key_action, (num_envs, 1)) * total[:, -1:]
            state = step(state, jnp.argmax(total > drawn, 1), jax.random.split(key_step, num_envs))
            return state, state.rewards.sum()

        return jax.lax.scan(body, state, jax.random.split(key, steps))[1].sum()

    key = jax.random.key(0)
    jax.block_until_ready(play(key))
    return lambda: rate(lambda: jax.block_until_ready(play(key)), num_envs * steps)


def rows() -> list[tuple[str, str, float, Timed, Timed]]:
    """What is measured, its unit, the ratio to reach, the peer, Ludus."""
    found = []
    for name, iterations, theirs, target in (("leduc_poker", 2000, 30, 15), ("kuhn_poker", 500_000, 5000, 10)):
        spiel = pyspiel.load_game(name)
        game = sequence_form(ludus.make(f"spiel/{name}").tree)
        peer = pyspiel.CFRPlusSolver(spiel)
        found.append(
            (
                f"CFR+ {name}, OpenSpiel C++",
                "iterations/s",
                target,
                repeated(peer.evaluate_and_update_policy, theirs),
                solver(game, CFR(plus=True, linear=True), iterations),
            )
        )
        xfp = fictitious_play.XFPSolver(spiel)
        found.append(
            (
                f"XFP {name}, OpenSpiel Python",
                "iterations/s",
                50,
                repeated(xfp.iteration, 2 if name == "leduc_poker" else 50),
                solver(game, XFP(), iterations),
            )
        )
    spiel, game = pyspiel.load_game("leduc_poker"), sequence_form(ludus.make("spiel/leduc_poker").tree)
    uniform = spiel_policy.UniformRandomPolicy(spiel)
    rng = np.random.default_rng(0)
    many = tuple(jnp.asarray(rng.dirichlet(np.ones(3), (64, s.shape[0])) * np.asarray(s.legal)) for s in game.sides)
    many = tuple(jnp.moveaxis(t / t.sum(-1, keepdims=True), 0, -1) for t in many)
    first = tuple(t[..., 0] for t in many)
    one = jax.jit(lambda g, s: exact.nash_conv(g, s))
    all_at_once = jax.jit(exact.nash_conv)
    jax.block_until_ready((one(game, first), all_at_once(game, many)))
    single = repeated(lambda: jax.block_until_ready(one(game, first)), 64)
    found.append(
        (
            "NashConv leduc_poker, OpenSpiel Python",
            "calls/s",
            50,
            repeated(lambda: exploitability.nash_conv(spiel, uniform), 2),
            single,
        )
    )
    found.append(
        (
            "NashConv of 64 policies in one call, 64 single calls",
            "policies/s",
            4,
            single,
            lambda: rate(lambda: jax.block_until_ready(all_at_once(game, many)), 64),
        )
    )
    env = ludus.make("spiel/leduc_poker")
    ours = random_steps(env)
    found.append(
        ("random play leduc_poker, OpenSpiel rl_environment", "env steps/s", 100, spiel_steps("leduc_poker"), ours)
    )
    found.append(("random play leduc_poker, pgx leduc_holdem", "env steps/s", 3, pgx_steps("leduc_holdem"), ours))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    configure()
    jax.config.update("jax_enable_x64", True)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    versions = ", ".join(f"{p} {version(p)}" for p in ("open_spiel", "pgx", "jax", "jaxlib"))
    print(
        f"{platform.machine()}, {cores} cores, {versions}; medians of {given.pairs} alternating pairs, double precision"
    )
    table = []
    print(f"{'work':<56}{'peer':>14}{'Ludus':>14}{'ratio':>9}{'asked':>7}  unit")
    for name, unit, target, peer, own in rows():
        pairs = [(peer(), own()) for _ in range(given.pairs)]
        theirs, ours = (float(np.median(x)) for x in zip(*pairs, strict=True))
        ratio = float(np.median([b / a for a, b in pairs]))
        print(f"{name:<56}{theirs:>14,.1f}{ours:>14,.1f}{ratio:>9.1f}{target:>7}  {unit}", flush=True)
        table.append({"work": name, "unit": unit, "peer": theirs, "ludus": ours, "ratio": ratio, "asked": target})
    if given.json:
        given.json.write_text(json.dumps(table, indent=1))


if __name__ == "__main__":
    main()
