"""The learning half of the loop alone: updates from rollouts that were collected elsewhere, over several devices."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import Any, Literal

import equinox as eqx
import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Key

from ludus.core.algorithm import Algorithm, Learner, Metrics
from ludus.core.rollout import Rollout
from ludus.core.sharding import ENV_AXIS
from ludus.runtime.finite import first_bad
from ludus.runtime.setup import compiler_options

Reports = tuple[Metrics, dict[str, Array]]


class Update:
    """`update(learner, rollout, key)`, compiled for rollouts of one shape after the other; the learner is donated.

    `devices` split the environments. Of several processes each gives the devices of all, and its own part of the
    rollout.
    """

    def __init__(
        self,
        algorithm: Algorithm,
        num_envs: int,
        devices: list[Any],
        *,
        on_nan: Literal["stop", "skip"] = "stop",
    ):
        self.algorithm, self.num_envs, self.on_nan = algorithm, num_envs, on_nan
        self.mesh = Mesh(np.array(devices), (ENV_AXIS,))
        self._compiled: dict[Any, Any] = {}

    @cached_property
    def alone(self) -> bool:
        """Whether all devices belong to this process."""
        return all(d.process_index == jax.process_index() for d in self.mesh.devices.flat)

    def place(self, learner: Learner) -> Learner:
        """A learner onto the devices."""
        return self._put(learner, _learner_specs(learner))

    def _put(self, tree: Any, specs: Any) -> Any:
        shardings = jax.tree.map(lambda s: NamedSharding(self.mesh, s), specs, is_leaf=lambda x: isinstance(x, P))
        if self.alone:
            return jax.device_put(tree, shardings)
        return jax.tree.map(jax.make_array_from_process_local_data, shardings, tree)

    def __call__(
        self, learner: Learner, rollout: Rollout, key: Key[Array, ""], settings: dict[str, Any] | None = None
    ) -> tuple[Learner, Metrics, dict[str, Array]]:
        """Learn from one rollout; the new learner, what was measured, and where a number was not finite."""
        specs = rollout_specs(rollout)
        rollout = self._put(rollout, specs)
        arguments = (learner, rollout, jax.random.key_data(key), settings or {})
        shapes = tuple((x.shape, x.dtype) for x in jax.tree.leaves(rollout))
        if shapes not in self._compiled:
            self._compiled[shapes] = self._compile(arguments, specs)
        found: tuple[Learner, Metrics, dict[str, Array]] = self._compiled[shapes](*arguments)
        return found

    def _compile(self, arguments: Any, specs: Any) -> Any:
        learner_specs = _learner_specs(arguments[0])

        def update(learner: Learner, rollout: Rollout, data: Array, settings: dict[str, Any]) -> tuple[Any, ...]:
            algorithm: Any = replace(self.algorithm, **settings) if settings else self.algorithm  # type: ignore[type-var]
            new, metrics = algorithm.update(learner, rollout, key=jax.random.wrap_key_data(data))
            bad = first_bad(rollout, self.num_envs) if self.on_nan == "stop" else {}
            return new, metrics, bad

        whole = jax.shard_map(
            update,
            mesh=self.mesh,
            in_specs=(learner_specs, specs, P(), P()),
            out_specs=(learner_specs, P(), P()),
            check_vma=False,
        )
        program = jax.jit(whole, donate_argnums=0)
        return program.lower(*arguments).compile(dict(compiler_options()))


def _learner_specs(learner: Learner) -> Any:
    spread = lambda tree, spec: jax.tree.map(lambda _: spec, tree)
    return Learner(spread(learner.shared, P()), spread(learner.per_env, P(ENV_AXIS)))


def rollout_specs(rollout: Rollout) -> Any:
    """Where the environment axis of each of a rollout's arrays stands, as partition specs."""

    def spec(path: tuple[Any, ...], _: Any) -> P:
        names = {getattr(step, "name", None) for step in path}
        if "progress" in names:
            return P()
        return P(ENV_AXIS) if names & {"memory", "next"} else P(None, ENV_AXIS)

    return jax.tree_util.tree_map_with_path(spec, rollout)


def join_rollouts(parts: list[Rollout]) -> Rollout:
    """Rollouts of as many steps side by side on the environment axis; on the host."""
    if len(parts) == 1:
        return parts[0]
    specs = rollout_specs(parts[0])
    rows = max((0 if p.last_time is None else len(p.last_time)) for p in parts)
    parts = [_with_rows(p, rows) for p in parts]
    axis = lambda spec: next((i for i, name in enumerate(spec) if name == ENV_AXIS), None)
    join = lambda spec, *xs: xs[0] if axis(spec) is None else np.concatenate([np.asarray(x) for x in xs], axis(spec))
    joined: Rollout = jax.tree.map(join, specs, *parts, is_leaf=lambda x: isinstance(x, P))
    return joined


def _with_rows(rollout: Rollout, rows: int) -> Rollout:
    """A rollout whose buffers of true last moments have so many rows."""
    if rollout.last_time is None or len(rollout.last_time) == rows:
        return rollout
    time = rollout.start.shape[0]

    def longer(x: Any, fill: int = 0) -> Any:
        more = np.full((rows - len(x), *x.shape[1:]), fill, x.dtype)
        return np.concatenate([np.asarray(x), more])

    lasts = lambda r: [g.last for g in r.groups.values()]
    more = [jax.tree.map(longer, x) for x in lasts(rollout)]
    found: Rollout = eqx.tree_at(lambda r: (lasts(r), r.last_time), rollout, (more, longer(rollout.last_time, time)))
    return found
