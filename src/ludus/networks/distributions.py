"""Action distributions: categorical with legal-action masks, and diagonal Gaussians."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key


class Categorical(eqx.Module):
    """Over discrete actions; illegal ones have the dtype's minimum as logit, thus probability exactly 0."""

    log_probs: Float[Array, "*batch action"]

    @staticmethod
    def of(logits: Float[Array, "*batch action"], legal: Bool[Array, "*batch action"] | None) -> Categorical:
        """Normalise logits over the legal actions."""
        if legal is not None:
            logits = jnp.where(legal, logits, jnp.finfo(logits.dtype).min)
        return Categorical(jax.nn.log_softmax(logits))

    def sample(self, key: Key[Array, ""]) -> Int[Array, "*batch"]:
        """Draw by inverse distribution function: one uniform number an agent instead of one an action.

        Only actions of positive probability count, however sums of many small ones are rounded.
        """
        p = jnp.exp(self.log_probs)
        cumulative = jnp.cumsum(p, axis=-1)
        uniform = jax.random.uniform(key, (*p.shape[:-1], 1)) * (1 - 2.0**-22)
        crossed = (cumulative > uniform * cumulative[..., -1:]) & (p > 0)
        drawn = jnp.where(crossed.any(-1), jnp.argmax(crossed, axis=-1), jnp.argmax(p, axis=-1))
        return drawn.astype(jnp.int32)

    def mode(self) -> Int[Array, "*batch"]:
        """The most likely action."""
        return jnp.argmax(self.log_probs, axis=-1).astype(jnp.int32)

    def log_prob(self, action: Int[Array, "*batch"]) -> Float[Array, "*batch"]:
        """log p(action)."""
        chosen = action[..., None] == jnp.arange(self.log_probs.shape[-1])
        return jnp.sum(jnp.where(chosen, self.log_probs, 0.0), axis=-1)

    def entropy(self) -> Float[Array, "*batch"]:
        """Over the legal actions, in nats."""
        return -jnp.sum(jnp.exp(self.log_probs) * self.log_probs, axis=-1)


class Gaussian(eqx.Module):
    """Independent normals; the last axis is the action's."""

    mean: Float[Array, "*batch action"]
    log_std: Float[Array, "*batch action"]

    def sample(self, key: Key[Array, ""]) -> Float[Array, "*batch action"]:
        """Draw; may leave the space's bounds (the environment clips)."""
        return self.mean + jnp.exp(self.log_std) * jax.random.normal(key, self.mean.shape)

    def mode(self) -> Float[Array, "*batch action"]:
        """The mean."""
        return self.mean

    def log_prob(self, action: Float[Array, "*batch action"]) -> Float[Array, "*batch"]:
        """log density, summed over the action's entries."""
        z = (action - self.mean) * jnp.exp(-self.log_std)
        return jnp.sum(-0.5 * jnp.square(z) - self.log_std - 0.5 * jnp.log(2 * jnp.pi), axis=-1)

    def entropy(self) -> Float[Array, "*batch"]:
        """Differential entropy in nats."""
        return jnp.sum(self.log_std + 0.5 * jnp.log(2 * jnp.pi * jnp.e), axis=-1)


class Uniform(eqx.Module):
    """Over a box; the last axis is the action's."""

    low: Float[Array, "*batch action"]
    high: Float[Array, "*batch action"]

    def sample(self, key: Key[Array, ""]) -> Float[Array, "*batch action"]:
        """Draw."""
        return self.low + (self.high - self.low) * jax.random.uniform(key, self.low.shape)

    def mode(self) -> Float[Array, "*batch action"]:
        """The middle, as good as any."""
        return 0.5 * (self.low + self.high)

    def log_prob(self, action: Float[Array, "*batch action"]) -> Float[Array, "*batch"]:
        """log density within the box."""
        return -jnp.log(self.high - self.low).sum(-1)


class Noisy(eqx.Module):
    """A deterministic action with Gaussian noise, clipped to a box."""

    mean: Float[Array, "*batch action"]
    spread: Float[Array, "*batch action"]
    low: Float[Array, "*batch action"]
    high: Float[Array, "*batch action"]

    def sample(self, key: Key[Array, ""]) -> Float[Array, "*batch action"]:
        """The action with noise."""
        return jnp.clip(self.mean + self.spread * jax.random.normal(key, self.mean.shape), self.low, self.high)

    def mode(self) -> Float[Array, "*batch action"]:
        """The action without noise."""
        return self.mean

    def log_prob(self, action: Float[Array, "*batch action"]) -> Float[Array, "*batch"]:
        """log density before clipping."""
        return Gaussian(self.mean, jnp.log(jnp.maximum(self.spread, 1e-6))).log_prob(action)


class Squashed(eqx.Module):
    """tanh of independent normals, scaled to a box (Haarnoja et al. 2018, appendix C)."""

    mean: Float[Array, "*batch action"]  # before squashing
    log_std: Float[Array, "*batch action"]
    low: Float[Array, "*batch action"]
    high: Float[Array, "*batch action"]

    def sample(self, key: Key[Array, ""]) -> Float[Array, "*batch action"]:
        """Draw."""
        return self.draw(key)[0]

    def draw(self, key: Key[Array, ""]) -> tuple[Float[Array, "*batch action"], Float[Array, "*batch"]]:
        """An action, differentiable in the parameters, and its log density, accurate however close to the edge."""
        u = self.mean + jnp.exp(self.log_std) * jax.random.normal(key, self.mean.shape)
        return self._scale(jnp.tanh(u)), self._density(u)

    def mode(self) -> Float[Array, "*batch action"]:
        """The squashed mean."""
        return self._scale(jnp.tanh(self.mean))

    def log_prob(self, action: Float[Array, "*batch action"]) -> Float[Array, "*batch"]:
        """log density, summed over the action's entries."""
        unit = (2 * action - self.low - self.high) / (self.high - self.low)
        return self._density(jnp.arctanh(jnp.clip(unit, -1 + 1e-6, 1 - 1e-6)))

    def _scale(self, unit: Array) -> Array:
        return self.low + 0.5 * (unit + 1) * (self.high - self.low)

    def _density(self, u: Array) -> Array:
        slope = 2 * (jnp.log(2.0) - u - jax.nn.softplus(-2 * u)) + jnp.log(0.5 * (self.high - self.low))
        return Gaussian(self.mean, self.log_std).log_prob(u) - slope.sum(-1)


Distribution = Categorical | Gaussian  # of policies whose entropy is known
