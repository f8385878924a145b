"""Rendering: play one episode with a run's policies and let the suite draw it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from ludus.core.errors import UsageError
from ludus.envs.registry import make
from ludus.experiment.api import load
from ludus.experiment.evaluate import evaluation_key
from ludus.runtime.cast import decide
from ludus.runtime.evaluate import ENDLESS


def render_run(run_path: Path, out: Path | None, *, seed: int = 0, explore: bool = False) -> Path:
    """Draw one episode of a run's first seed as a GIF or SVG, whichever the suite can; returns the file."""
    run = load(run_path)
    env: Any = make(run.config.environment, **run.config.options)
    return render(env, run.policy, run_path, out, seed=seed, explore=explore)


def render(
    env: Any, policies: dict[str, Any], directory: Path, out: Path | None, *, seed: int = 0, explore: bool = False
) -> Path:
    """Draw one episode of these policies; the file, `episode.gif` or `.svg` in the directory unless `out` says."""
    name = env.spec.name
    if not hasattr(env, "render"):
        raise UsageError(f"{name} cannot be drawn: its suite has no renderer that Ludus knows")
    suffix = getattr(env, "render_suffix", ".gif")
    path = out or directory / f"episode{suffix}"
    if path.suffix != suffix:
        raise UsageError(f"{name} is drawn as {suffix}, so the file cannot be {path}")
    states = episode(env, policies, evaluation_key(seed), explore=explore)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        env.render(states, str(path))
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror or error}") from error
    return path


def episode(env: Any, policies: dict[str, Any], key: jax.Array, *, explore: bool) -> list[Any]:
    """The states of one episode, first to last."""
    groups = env.spec.groups

    @jax.jit
    def step(key: Any, state: Any, now: Any, memory: Any) -> Any:
        keys = jax.random.split(key, 1 + len(groups))
        decisions = {
            g.name: decide(policies[g.name], g, now, memory[g.name], keys[1 + i], explore) for i, g in enumerate(groups)
        }
        state, now = env.step(keys[0], state, {name: d.action for name, d in decisions.items()})
        return state, now, {name: d.memory for name, d in decisions.items()}

    state, now = jax.jit(env.reset)(key)
    memory = {g.name: policies[g.name].initial_memory((g.size,)) for g in groups}
    states = [state]
    for t in range(env.spec.horizon or ENDLESS):
        state, now, memory = step(jax.random.fold_in(key, t), state, now, memory)
        states.append(state)
        if bool(jnp.asarray(now.done)):
            break
    return states
