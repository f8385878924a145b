"""Rendering: play one episode with a run's policies and let the suite draw it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ludus.core.errors import UsageError
from ludus.core.host import HostEnvironment
from ludus.envs.registry import make, options_of
from ludus.experiment.api import load
from ludus.experiment.evaluate import evaluation_key
from ludus.runtime.cast import decide
from ludus.runtime.evaluate import ENDLESS
from ludus.runtime.inference import Inference


def render_run(run_path: Path, out: Path | None, *, seed: int = 0, explore: bool = False) -> Path:
    """Draw one episode of a run's first seed as a GIF or SVG, whichever the suite can; returns the file."""
    run = load(run_path)
    env = drawable(run.config.environment, run.config.options)
    return render(env, run.policy, run_path, out, seed=seed, explore=explore)


def render(
    env: Any, policies: dict[str, Any], directory: Path, out: Path | None, *, seed: int = 0, explore: bool = False
) -> Path:
    """Draw one episode of these policies; the file, `episode.gif` or `.svg` in the directory unless `out` says."""
    name = env.spec.name
    if isinstance(env, HostEnvironment):
        return _render_host(env, policies, directory, out, seed, explore)
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


def drawable(name: str, options: dict[str, Any]) -> Any:
    """A game that can draw, where it is asked to by an option."""
    return make(name, **(options | ({"pictures": True} if "pictures" in options_of(name) else {})))


def _render_host(
    env: HostEnvironment, policies: dict[str, Any], directory: Path, out: Path | None, seed: int, explore: bool
) -> Path:
    """Play one episode on the host and write what the game draws as a GIF."""
    path = out or directory / "episode.gif"
    if path.suffix != ".gif":
        raise UsageError(f"{env.spec.name} is drawn as .gif, so the file cannot be {path}")
    inference = Inference(env.spec, 1, explore=explore)
    inference.publish(policies, 0)
    inference.begin(jax.random.split(evaluation_key(seed), 1))
    step, pictures = env.reset(seed), [env.render()]
    for t in range(env.spec.horizon or ENDLESS):
        if pictures[0] is None:
            raise UsageError(f"{env.spec.name} cannot be drawn")
        one = lambda tree: {name: np.asarray(x)[None] for name, x in tree.items()}
        moment = {kind: one(getattr(step, kind)) for kind in ("observation", "legal", "acting", "seat")}
        decided = inference.decide(np.zeros(1, int), np.array([t == 0]), moment)
        step = env.step({name: x[0] for name, x in decided.action.items()})
        pictures.append(env.render())
        if step.done:
            break
    env.close()
    write_gif([p for p in pictures if p is not None], path)
    return path


def write_gif(pictures: list[np.ndarray], path: Path) -> None:
    """Write pictures `[height, width, 3]` of bytes as a GIF of twenty a second."""
    try:
        from PIL import Image
    except ImportError as error:
        raise UsageError("drawing needs the package 'pillow': pip install 'ludus[report]'") from error
    frames = [Image.fromarray(np.asarray(p, np.uint8)) for p in pictures]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        frames[0].save(path, save_all=True, append_images=frames[1:], duration=50, loop=0)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror or error}") from error


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
