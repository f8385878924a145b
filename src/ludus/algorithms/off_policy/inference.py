"""Policies of the others, inferred from what they do (Lowe et al. 2017, section 4.2).

Every owner has an idea of every agent: `[owner, agent]` leads all arrays. The idea of itself is never used.
"""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from ludus.algorithms.joint import as_vector, relaxed
from ludus.core.rollout import Moment, Rollout
from ludus.core.sharding import sum_over_shards
from ludus.core.spec import GameSpec, GroupSpec
from ludus.networks.distributions import Categorical, Distribution, Gaussian
from ludus.networks.policy import NetworkPolicy
from ludus.networks.torso import Network


class Inferred(eqx.Module):
    """One group's ideas of all groups."""

    policies: dict[str, NetworkPolicy]
    target: dict[str, NetworkPolicy]
    optimiser: Any

    @staticmethod
    def init(spec: GameSpec, owner: GroupSpec, network: Network, optimiser: Any, *, key: Key[Array, ""]) -> Inferred:
        """Fresh ideas."""

        def ideas(group: GroupSpec, key: Key[Array, ""]) -> NetworkPolicy:
            make = lambda k: NetworkPolicy.init(group, network, key=k)
            made: NetworkPolicy = jax.vmap(jax.vmap(make))(jax.random.split(key, (owner.size, group.size)))
            return made

        policies = {g.name: ideas(g, jax.random.fold_in(key, i)) for i, g in enumerate(spec.groups)}
        return Inferred(policies, jax.tree.map(jnp.copy, policies), optimiser.init(policies))

    def others(
        self, spec: GameSpec, moments: dict[str, Moment], key: Key[Array, ""]
    ) -> dict[str, Float[Array, "*lead owner agent feature"]]:
        """What each owner expects everybody to do next, from the target ideas."""
        found = {}
        for i, group in enumerate(spec.groups):
            idea = expected(self.target[group.name], group, moments[group.name])
            if isinstance(idea, Categorical):
                found[group.name] = relaxed(idea, jax.random.fold_in(key, i))
            else:
                found[group.name] = as_vector(group.action, idea.mode())
        return found

    def fit(
        self,
        spec: GameSpec,
        owner: GroupSpec,
        moments: dict[str, Moment],
        rollout: Rollout,
        optimiser: Any,
        *,
        entropy_weight: float,
        rate: Array | float,
        target_rate: float,
    ) -> Inferred:
        """One gradient step on the negative log-likelihood of what was done, with an entropy bonus (eq. 7)."""

        def loss(policies: dict[str, NetworkPolicy]) -> Array:
            total = jnp.zeros(())
            for group in spec.groups:
                idea = expected(policies[group.name], group, moments[group.name])
                done = rollout.groups[group.name].action
                action = jnp.broadcast_to(jnp.expand_dims(done, 2), (*done.shape[:2], owner.size, *done.shape[2:]))
                score = idea.log_prob(action) + entropy_weight * idea.entropy()
                acting = moments[group.name].acting[:, :, None]
                count = jnp.maximum(sum_over_shards(acting.sum(dtype=jnp.float32)), 1.0)
                total -= jnp.where(acting, score, 0.0).sum() / count
            return total

        gradients = sum_over_shards(jax.grad(loss)(self.policies))
        step, state = optimiser.update(gradients, self.optimiser)
        policies = jax.tree.map(lambda p, u: p - rate * u, self.policies, step)
        target = jax.tree.map(lambda t, p: t + target_rate * (p - t), self.target, policies)
        return Inferred(policies, target, state)


def expected(stack: NetworkPolicy, group: GroupSpec, moment: Moment) -> Distribution:
    """`[*lead, owner, agent]` distributions of a group's actions."""
    axis = moment.observation.ndim - len(group.observation.shape) - 1
    one = lambda p, x, legal: p.distribution(x, legal)[0]
    mask = None if moment.legal is None else axis
    per_agent = jax.vmap(one, in_axes=(0, axis, mask), out_axes=-2)
    found: Distribution = jax.vmap(per_agent, in_axes=(0, None, None), out_axes=-3)(
        stack, moment.observation, moment.legal
    )
    return found


def divergence(
    true: Distribution, idea: Distribution, owner: GroupSpec, group: GroupSpec, noise: Array | float
) -> Float[Array, ""]:
    """The mean of KL(true ‖ idea) over steps, owners and the agents that are not the owner, in nats.

    A deterministic policy counts as a Gaussian with `noise` half-widths of deviation, as it explores.
    """
    if isinstance(true, Categorical):
        assert isinstance(idea, Categorical)
        p = true.log_probs[..., None, :, :]
        kl = (jnp.exp(p) * (p - idea.log_probs)).sum(-1)
    else:
        assert isinstance(idea, Gaussian)
        mean, std = true.mode()[..., None, :, :], jnp.exp(idea.log_std)
        spread = jnp.maximum(0.5 * noise * (true.high - true.low), 1e-3)[..., None, :, :]  # type: ignore
        kl = (jnp.log(std / spread) + (spread**2 + (mean - idea.mean) ** 2) / (2 * std**2) - 0.5).sum(-1)
    other = 1.0 - jnp.eye(owner.size, group.size) * (owner.name == group.name)
    return sum_over_shards((kl * other).sum()) / jnp.maximum(
        sum_over_shards(jnp.broadcast_to(other, kl.shape).sum()), 1.0
    )
