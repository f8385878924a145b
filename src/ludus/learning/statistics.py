"""Masked means over all shards, and a running normaliser for values."""

from __future__ import annotations

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ludus.core.sharding import sum_over_shards


def share_of_mean(x: Float[Array, "..."], mask: Bool[Array, "..."]) -> Float[Array, ""]:
    """This shard's part of the mean of `x` over the masked entries of all shards; the parts add up to the mean.

    Gradients of it add up over shards in the same way, so a sharded loss needs one `sum_over_shards` at the end.
    """
    count = sum_over_shards(jnp.sum(mask, dtype=x.dtype))
    return jnp.sum(jnp.where(mask, x, 0.0)) / jnp.maximum(count, 1.0)


def masked_moments(x: Float[Array, "..."], mask: Bool[Array, "..."]) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Mean and variance of the masked entries over all shards."""
    mean = sum_over_shards(share_of_mean(x, mask))
    return mean, sum_over_shards(share_of_mean(jnp.square(x - mean), mask))


def standardise(x: Float[Array, "*shape"], mask: Bool[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Shift and scale the masked entries to mean 0 and deviation 1 over all shards; zero elsewhere."""
    mean, variance = masked_moments(x, mask)
    return jnp.where(mask, (x - mean) / (jnp.sqrt(variance) + 1e-8), 0.0)


class ValueNormaliser(eqx.Module):
    """Running mean and deviation of value targets (as in MAPPO, Yu et al. 2022), debiased exponential averages.

    The critic predicts normalised values: `restore` gives them their scale, `normalise` takes it from targets.
    """

    mean: Float[Array, ""]
    square: Float[Array, ""]
    weight: Float[Array, ""]
    decay: float = eqx.field(static=True, default=0.99)

    @staticmethod
    def fresh() -> ValueNormaliser:
        """A normaliser that has seen nothing and changes nothing."""
        return ValueNormaliser(jnp.zeros(()), jnp.zeros(()), jnp.zeros(()))

    def _moments(self) -> tuple[Array, Array]:
        weight = jnp.maximum(self.weight, 1e-8)
        mean = self.mean / weight
        variance = jnp.maximum(self.square / weight - jnp.square(mean), 1e-4)
        seen = self.weight > 0
        return jnp.where(seen, mean, 0.0), jnp.where(seen, jnp.sqrt(variance), 1.0)

    def update(self, x: Float[Array, "*shape"], mask: Bool[Array, "*shape"]) -> ValueNormaliser:
        """Take in the masked entries of one batch."""
        mean, variance = masked_moments(x, mask)
        keep = self.decay
        return ValueNormaliser(
            keep * self.mean + (1 - keep) * mean,
            keep * self.square + (1 - keep) * (variance + jnp.square(mean)),
            keep * self.weight + (1 - keep),
        )

    def normalise(self, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """To the critic's scale."""
        mean, deviation = self._moments()
        return (x - mean) / deviation

    def restore(self, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """To the game's scale."""
        mean, deviation = self._moments()
        return x * deviation + mean
