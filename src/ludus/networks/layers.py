"""Layers that act on the last axis of arrays with any axes in front."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "tanh": jnp.tanh,
    "relu": jax.nn.relu,
    "elu": jax.nn.elu,
    "gelu": jax.nn.gelu,
    "silu": jax.nn.silu,
}


@partial(jax.jit, static_argnames=("shape", "scale"))  # each shape is compiled once, not each call's loop
def orthogonal(key: Key[Array, ""], shape: tuple[int, int], scale: float) -> Float[Array, "in out"]:
    """A scaled matrix with orthonormal rows or columns, uniformly distributed (Saxe et al. 2014).

    By Gram–Schmidt on a Gaussian matrix, each column twice for accuracy. The QR routine of host libraries is not
    used: several of its batched calls at once can block each other on few cores (jaxlib 0.10).
    """
    rows, columns = max(shape), min(shape)
    gaussian = jax.random.normal(key, (columns, rows))

    def orthonormalise(basis: Array, step: tuple[Array, Array]) -> tuple[Array, None]:
        index, vector = step
        for _ in range(2):
            vector = vector - (basis @ vector) @ basis
        return basis.at[index].set(vector / jnp.linalg.norm(vector)), None

    basis, _ = jax.lax.scan(orthonormalise, jnp.zeros_like(gaussian), (jnp.arange(columns), gaussian))
    return scale * (basis.T if shape[0] >= shape[1] else basis)


class Linear(eqx.Module):
    """x W + b."""

    weight: Float[Array, "*stack in out"]
    bias: Float[Array, "*stack out"]

    @staticmethod
    def init(inputs: int, outputs: int, *, key: Key[Array, ""], scale: float = 2.0**0.5) -> Linear:
        """Orthogonal weights, zero bias."""
        return Linear(orthogonal(key, (inputs, outputs), scale), jnp.zeros(outputs))

    def __call__(self, x: Float[Array, "*batch in"]) -> Float[Array, "*batch out"]:
        return product(x, self.weight) + self.bias


def product(x: Float[Array, "*batch in"], weight: Float[Array, "in out"]) -> Float[Array, "*batch out"]:
    """x W with all axes in front as one: gradients of weights sum over one axis then, which XLA's host compiler does a
    fifth faster than over several."""
    return (x.reshape(-1, x.shape[-1]) @ weight).reshape(*x.shape[:-1], -1)


class LayerNorm(eqx.Module):
    """Layer normalisation (Ba et al. 2016)."""

    scale: Float[Array, "*stack size"]
    shift: Float[Array, "*stack size"]

    @staticmethod
    def init(size: int) -> LayerNorm:
        """The identity after normalisation."""
        return LayerNorm(jnp.ones(size), jnp.zeros(size))

    def __call__(self, x: Float[Array, "*batch size"]) -> Float[Array, "*batch size"]:
        mean = x.mean(-1, keepdims=True)
        variance = jnp.square(x - mean).mean(-1, keepdims=True)
        return (x - mean) * jax.lax.rsqrt(variance + 1e-5) * self.scale + self.shift


class Conv(eqx.Module):
    """A 3 × 3 convolution, same padding, channels last."""

    weight: Float[Array, "*stack 3 3 in out"]
    bias: Float[Array, "*stack out"]

    @staticmethod
    def init(inputs: int, outputs: int, *, key: Key[Array, ""]) -> Conv:
        """Orthogonal over the flattened window."""
        weight = orthogonal(key, (9 * inputs, outputs), 2.0**0.5)
        return Conv(weight.reshape(3, 3, inputs, outputs), jnp.zeros(outputs))

    def __call__(self, x: Float[Array, "*batch height width in"]) -> Float[Array, "*batch height width out"]:
        flat = x.reshape(-1, *x.shape[-3:])
        y = jax.lax.conv_general_dilated(flat, self.weight, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        return y.reshape(*x.shape[:-1], -1) + self.bias
