"""A gated recurrent unit (Cho et al. 2014) over whole sequences, with its own backward pass.

Automatic differentiation of a scan adds up weight gradients step by step. Here the scan of the backward pass keeps
only what is sequential; weight gradients follow as one matrix product over all steps.
"""

from __future__ import annotations

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from ludus.networks.layers import Linear, orthogonal, product


class GRU(eqx.Module):
    """h' = (1 − z) n + z h, with gates r, z and candidate n = tanh(x W_n + b_n + r (h U_n + c))."""

    inputs: Linear  # to the three gates r, z, n
    recurrent: Float[Array, "*stack size gates"]
    bias: Float[Array, "*stack size"]  # c

    @staticmethod
    def init(inputs: int, size: int, *, key: Key[Array, ""]) -> GRU:
        """Orthogonal recurrent weights per gate."""
        key_in, *keys = jax.random.split(key, 4)
        recurrent = jnp.concatenate([orthogonal(k, (size, size), 1.0) for k in keys], axis=1)
        return GRU(Linear.init(inputs, 3 * size, key=key_in, scale=1.0), recurrent, jnp.zeros(size))

    @property
    def size(self) -> int:
        """The number of memory units."""
        return self.bias.shape[-1]

    def step(self, x: Float[Array, "*batch in"], h: Float[Array, "*batch size"]) -> Float[Array, "*batch size"]:
        """One step."""
        return _cell(_gates(product(x, self.inputs.weight), self.inputs.bias), h, self.recurrent, self.bias)[0]

    def unroll(
        self,
        x: Float[Array, "time *batch in"],
        h: Float[Array, "*batch size"],
        start: Bool[Array, "time *batch"],
    ) -> Float[Array, "time *batch size"]:
        """All steps; memory is cleared before the steps where `start` holds."""
        time, batch = x.shape[0], x.shape[1:-1]
        flat = product(x.reshape(time, -1, x.shape[-1]), self.inputs.weight)
        kept = 1.0 - start.reshape(time, -1, 1).astype(flat.dtype)
        y = _unroll(flat, self.inputs.bias, h.reshape(-1, self.size), kept, self.recurrent, self.bias)
        return y.reshape(time, *batch, self.size)


class Gates(NamedTuple):
    """One array for each gate. Slices of one array that is computed on the way would be written by XLA's host
    compiler as calls from a loop, which it then does not vectorise: a step took 1.7 times as long."""

    r: Float[Array, "*batch size"]
    z: Float[Array, "*batch size"]
    n: Float[Array, "*batch size"]


class _Trace(NamedTuple):
    """What the backward pass needs of the forward pass, all `[time, batch, size]`."""

    before: Array  # memory, cleared where an episode starts
    gates: Gates
    inner: Array  # what r lets through to the candidate


def _split(x: Array) -> tuple[Array, Array, Array]:
    size = x.shape[-1] // 3
    return x[..., :size], x[..., size : 2 * size], x[..., 2 * size :]


def _gates(x: Array, shift: Array) -> Gates:
    """What products of inputs and weights, and their bias, add to each gate. The bias comes last: see `Gates`."""
    return Gates(*(part + bias for part, bias in zip(_split(x), _split(shift), strict=True)))


def _cell(x: Gates, h: Array, recurrent: Array, bias: Array) -> tuple[Array, tuple[Gates, Array]]:
    """One step from projected inputs; also returns the gates, and what r lets through, for the backward pass."""
    of_r, of_z, of_n = _split(h @ recurrent)
    r, z = jax.nn.sigmoid(x.r + of_r), jax.nn.sigmoid(x.z + of_z)
    inner = of_n + bias
    n = jnp.tanh(x.n + r * inner)
    return n + z * (h - n), (Gates(r, z, n), inner)


@jax.custom_vjp
def _unroll(x: Array, shift: Array, h: Array, kept: Array, recurrent: Array, bias: Array) -> Array:
    """Unroll over `x` `[time, batch, gates]`, products of inputs and weights whose bias is `shift`; `kept` is 0 where
    memory is cleared first."""

    def forward(h: Array, step: tuple[Gates, Array]) -> tuple[Array, Array]:
        x_t, kept_t = step
        h, _ = _cell(x_t, h * kept_t, recurrent, bias)
        return h, h

    y: Array = jax.lax.scan(forward, h, (_gates(x, shift), kept))[1]
    return y


def _unroll_forward(
    x: Array, shift: Array, h: Array, kept: Array, recurrent: Array, bias: Array
) -> tuple[Array, tuple]:
    def forward(h: Array, step: tuple[Gates, Array]) -> tuple[Array, tuple[Array, tuple[Gates, Array]]]:
        x_t, kept_t = step
        h, inside = _cell(x_t, h * kept_t, recurrent, bias)
        return h, (h, inside)

    _, (y, (gates, inner)) = jax.lax.scan(forward, h, (_gates(x, shift), kept))
    before = jnp.concatenate([h[None], y[:-1]]) * kept
    return y, (_Trace(before, gates, inner), kept, recurrent)


def _unroll_backward(residuals: tuple, dy: Array) -> tuple:
    """The loop holds what is sequential: it passes dh, the gradient of memory, through a matrix product. All else is
    of one piece over all steps: `slopes`, the derivatives of memory by the gates' inputs, and products with dh."""
    (before, (r, z, n), inner), kept, recurrent = residuals
    slope_n = (1 - z) * (1 - n * n)
    slope_r = slope_n * inner * r * (1 - r)
    slope_z = (before - n) * z * (1 - z)
    slopes = (slope_r, slope_z, slope_n * r)  # by the three parts of h U
    transposed = recurrent.T

    def backward(dh: Array, step: tuple[Array, ...]) -> tuple[Array, Array]:
        dy_before, z_t, kept_t, *slopes_t = step
        du = jnp.concatenate([dh * slope for slope in slopes_t], axis=-1)
        return (dh * z_t + du @ transposed) * kept_t + dy_before, dh

    dy_before = jnp.concatenate([jnp.zeros_like(dy[:1]), dy[:-1]])
    first, dh = jax.lax.scan(backward, dy[-1], (dy_before, z, kept, *slopes), reverse=True)
    du = jnp.concatenate([dh * slope for slope in slopes], axis=-1)
    flat = lambda a: a.reshape(-1, a.shape[-1])
    d_recurrent = flat(before).T @ flat(du)
    dx = jnp.concatenate([dh * slope_r, dh * slope_z, dh * slope_n], axis=-1)
    return dx, dx.sum((0, 1)), first, None, d_recurrent, (dh * slopes[2]).sum((0, 1))


_unroll.defvjp(_unroll_forward, _unroll_backward)
