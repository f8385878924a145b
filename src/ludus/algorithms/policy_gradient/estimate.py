"""From a view to a batch: values of before the update, and the advantages that they give."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import jax.numpy as jnp
from jaxtyping import Array

from ludus.algorithms.policy_gradient.batch import Batch
from ludus.algorithms.policy_gradient.models import Models
from ludus.algorithms.view import View, to_agents, to_slots
from ludus.core.policy import Memory
from ludus.core.rollout import Rollout
from ludus.learning.returns import Importance, generalised_advantages
from ludus.learning.statistics import ValueNormaliser


@runtime_checkable
class Estimation(Protocol):
    """How a method estimates advantages; see `ActorCritic` for the fields."""

    @property
    def discount(self) -> float:
        """γ per acting step."""
        ...

    @property
    def trace(self) -> float:
        """λ."""
        ...

    @property
    def normalise_values(self) -> bool:
        """Whether critics predict normalised values."""
        ...

    @property
    def baseline(self) -> bool:
        """Whether values are subtracted from returns."""
        ...

    @property
    def clip_rho(self) -> float | None:
        """ρ̄ of V-trace; None where experience counts as the policy's own."""
        ...

    def knows_next(self, acting: Array) -> Array:
        """Whether the future of an agent that is (not) `acting` at a cut may be bootstrapped."""
        ...

    def weigh(self, advantage: Array, rho: Array | None) -> Array:
        """Advantages with the weights of their steps, where the policy's loss does not weigh them itself."""
        ...

    def scale_advantages(self, advantage: Array, weight: Array) -> Array:
        """What the policy's loss sees of them."""
        ...


def prepare(
    method: Estimation,
    models: Models,
    normaliser: ValueNormaliser,
    critic_memory: Memory,
    own: View,
    rollout: Rollout,
) -> tuple[Batch, Memory, ValueNormaliser]:
    """Estimate advantages with the values of before the update."""
    predicted, kept = models.values(own, critic_memory, rollout)
    values = predicted.map(normaliser.restore) if method.normalise_values else predicted
    agents = own.reward.shape[-1]
    value = values.now if method.baseline else jnp.zeros_like(values.now)
    spread = lambda x: to_agents(x, agents)
    last, known = jnp.zeros_like(own.reward), jnp.zeros_like(own.now.acting)
    if own.last is not None and rollout.last_time is not None:
        at = (rollout.last_time, jnp.arange(own.reward.shape[1]))
        last = last.at[at].set(spread(values.last), mode="drop")
        known = known.at[at].set(own.last.acting, mode="drop")
    importance = None
    if method.clip_rho is not None:
        ratio = spread(models.ratio(own, rollout))
        importance = Importance(jnp.minimum(ratio, method.clip_rho), method.trace * jnp.minimum(ratio, 1.0))
    estimate = generalised_advantages(
        reward=own.reward,
        value=spread(value),
        acting=own.now.acting,
        terminated=rollout.terminated,
        truncated=rollout.truncated,
        next_value=spread(values.next),
        next_known=method.knows_next(own.next.acting),
        last_value=last,
        last_known=method.knows_next(known),
        discount=method.discount,
        trace=method.trace,
        bootstrap=method.baseline,
        importance=importance,
    )
    seat = own.now.seat
    weight = to_slots(estimate.valid, seat)
    rho = None if importance is None else to_slots(importance.rho, seat)
    target = to_slots(estimate.target, seat)
    if method.normalise_values:
        normaliser = normaliser.update(target, weight)
    batch = Batch(
        now=own.now,
        start=rollout.start,
        legal=own.legal,
        action=own.action,
        log_prob=own.log_prob,
        advantage=method.scale_advantages(method.weigh(to_slots(estimate.advantage, seat), rho), weight),
        target=target,
        old_value=predicted.now,
        weight=weight,
        memory=own.memory,
        critic_memory=critic_memory,
    )
    return batch, kept, normaliser
