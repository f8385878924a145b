"""What learners of action values minimise: targets from the target networks, errors of the newest ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float

from ludus.algorithms.look import acting, for_agents, join, joint_state, legal_actions, masked, unroll
from ludus.algorithms.view import Everywhere, View, view
from ludus.core.algorithm import Metrics
from ludus.core.rollout import Rollout
from ludus.core.sharding import sum_over_shards
from ludus.core.spec import GameSpec, GroupSpec
from ludus.learning.replay import Sample
from ludus.learning.returns import backups
from ludus.networks.mixers import Mixer
from ludus.networks.q_network import QNetwork


class Models(eqx.Module):
    """Networks by group, and the mixer of the unit."""

    networks: dict[str, QNetwork]
    mixer: Mixer | None


class Targets(eqx.Module):
    """What values should be, and where that is known. One agent where values are mixed."""

    value: Float[Array, "time env agent quantile"]
    valid: Bool[Array, "time env agent"]


@runtime_checkable
class Method(Protocol):
    """The hyperparameters that matter here; see `Hyperparameters`."""

    @property
    def discount(self) -> float: ...
    @property
    def reward_scale(self) -> float: ...
    @property
    def trace(self) -> float: ...
    @property
    def n_step(self) -> int: ...
    @property
    def double(self) -> bool: ...
    @property
    def burn_in(self) -> int: ...
    @property
    def quantiles(self) -> int: ...
    @property
    def huber(self) -> float: ...
    @property
    def parameters(self) -> str: ...


def look(method: Method, models: Models, rollout: Rollout, spec: GameSpec, groups: list[GroupSpec]) -> list[Everywhere]:
    """Each group's action values."""
    independent = method.parameters == "independent"
    return [action_values(models.networks[g.name], rollout, spec, g, independent=independent) for g in groups]


def action_values(
    network: QNetwork, rollout: Rollout, spec: GameSpec, group: GroupSpec, *, independent: bool
) -> Everywhere:
    """`[…, agent, action, quantile]`. In turn-based games rows of agents that do not act are the mover's."""
    own = view(rollout, spec, group, "local")

    def values(network: QNetwork, own: View) -> Everywhere:
        return unroll(network.torso, own, rollout, own.memory, lambda g: g.observation)[0].map(network.read)

    return for_agents(values, network, own, group.size, independent=independent, behind=3)


def targets(
    method: Method,
    newest: list[Everywhere],
    old: Models,
    rollout: Rollout,
    spec: GameSpec,
    groups: list[GroupSpec],
) -> Targets:
    """Backed-up values of the target networks, for the actions that the newest values prefer where `double`."""
    values, moves = [], []
    for k, (group, valued) in enumerate(zip(groups, look(method, old, rollout, spec, groups), strict=True)):
        chooser = newest[k] if method.double else valued
        values.append(greedy_values(chooser, valued, legal_actions(rollout, group)))
        moves.append(acting(rollout, group))
    value, active = join(values), join(moves)
    reward = method.reward_scale * jnp.concatenate([rollout.groups[g.name].reward for g in groups], -1)
    mixer: Any = old.mixer
    if mixer is not None:
        state = joint_state(rollout, spec, groups)
        alive = value.map(lambda v, a: jnp.where(a[..., None], v, 0.0)[..., 0], active)
        value = alive.map(lambda v, s: mixer(v, v, s)[..., None, None], state)
        active = active.map(lambda a: a.any(-1, keepdims=True))
        reward = reward.mean(-1, keepdims=True)
    target, valid = backups(
        reward, value, active, rollout, discount=method.discount, trace=method.trace, steps=method.n_step
    )
    valid &= (jnp.arange(valid.shape[0]) >= method.burn_in)[:, None, None]
    return Targets(jax.lax.stop_gradient(target), valid)


def losses(
    method: Method,
    newest: list[Everywhere],
    mixer: Mixer | None,
    sample: Sample,
    spec: GameSpec,
    groups: list[GroupSpec],
    target: Targets,
) -> tuple[Float[Array, ""], tuple[Float[Array, " segment"], Metrics, Float[Array, ""]]]:
    """The sum of losses over known steps; each segment's error, sums for metrics, and how many steps are known."""
    rollout = sample.rollout
    chosen, best = [], []
    for group, values in zip(groups, newest, strict=True):
        own, legal = rollout.groups[group.name], legal_actions(rollout, group)
        action = own.action if own.seat is None else jnp.broadcast_to(own.action, own.acting.shape)
        taken = jnp.take_along_axis(values.now, action[..., None, None], axis=-2).squeeze(-2)
        top = masked(values.now.mean(-1), None if legal is None else legal.now).max(-1)
        chosen.append(jnp.where(own.acting[..., None], taken, 0.0))
        best.append(jnp.where(own.acting, top, 0.0))
    value = jnp.concatenate(chosen, -2)
    if mixer is not None:
        state = joint_state(rollout, spec, groups).now
        value = mixer(value[..., 0], jnp.concatenate(best, -1), state)[..., None, None]
    error = target.value.mean(-1) - value.mean(-1)
    over = lambda x: jnp.where(target.valid, x, 0.0).sum()
    total = over(penalty(method, value, target.value) * sample.weight[:, None])
    size = jnp.where(target.valid, jnp.abs(error), 0.0)
    # A segment's priority is between its largest and its mean error (R2D2: Kapturowski et al. 2019).
    segment = jax.lax.stop_gradient(0.9 * size.max((0, 2)) + 0.1 * size.mean((0, 2)))
    sums = {"loss": total, "value": over(value.mean(-1)), "absolute_error": over(jnp.abs(error))}
    return total, (segment, sums, target.valid.sum(dtype=jnp.float32))


def gradients(
    method: Method,
    models: Models,
    sample: Sample,
    spec: GameSpec,
    groups: list[GroupSpec],
    aim: Callable[[list[Everywhere]], Targets],
) -> tuple[Models, Float[Array, " segment"], Metrics]:
    """Of the mean loss over all shards' known steps; `aim` gives targets, and may look at the newest values for it."""

    def loss(models: Models) -> tuple[Array, Any]:
        newest = look(method, models, sample.rollout, spec, groups)
        target = aim(jax.lax.stop_gradient(newest))
        return losses(method, newest, models.mixer, sample, spec, groups, target)

    slope, (error, sums, count) = jax.grad(loss, has_aux=True)(models)
    slope, sums, count = sum_over_shards((slope, sums, count))  # one sum: devices wait for each other once
    mean = lambda tree: jax.tree.map(lambda x: x / jnp.maximum(count, 1.0), tree)
    return mean(slope), error, mean(sums)


def penalty(
    method: Method,
    value: Float[Array, "time env agent quantile"],
    target: Float[Array, "time env agent quantile"],
) -> Float[Array, "time env agent"]:
    """Half the squared (or Huber) error; for quantiles the asymmetric Huber loss over all pairs (QR-DQN, eq. 10)."""
    if method.quantiles == 1:
        error = (target - value)[..., 0]
        return optax.losses.huber_loss(error, delta=method.huber) if method.huber > 0 else 0.5 * jnp.square(error)
    middle = (jnp.arange(method.quantiles) + 0.5) / method.quantiles
    error = target[..., None, :] - value[..., :, None]  # [predicted, target]
    width = method.huber if method.huber > 0 else 1.0
    weight = jnp.abs(middle[:, None] - (jax.lax.stop_gradient(error) < 0))
    return (weight * optax.losses.huber_loss(error, delta=width) / width).mean(-1).sum(-1)


def greedy_values(chooser: Everywhere, valued: Everywhere, legal: Everywhere | None) -> Everywhere:
    """`[…, agent, quantile]`: what `valued` gives the legal action that `chooser` thinks best."""

    def pick(choose: Array, value: Array, mask: Array | None = None) -> Array:
        best = jnp.argmax(masked(choose.mean(-1), mask), -1)
        return jnp.take_along_axis(value, best[..., None, None], axis=-2).squeeze(-2)

    return chooser.map(pick, valued) if legal is None else chooser.map(pick, valued, legal)
