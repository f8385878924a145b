"""A gated recurrent unit (Cho et al. 2014) over whole sequences, with its own backward pass.

Automatic differentiation of a scan adds up weight gradients step by step. Here the scan of the backward pass keeps
only what is sequential; weight gradients follow as one matrix product over all steps.
"""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from ludus.networks.layers import Linear, orthogonal

UNROLL = 2  # steps in one turn of a loop: on host cores a turn costs as much as the work of a small batch


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
        return _cell(self.inputs(x), h, self.recurrent, self.bias)[0]

    def unroll(
        self,
        x: Float[Array, "time *batch in"],
        h: Float[Array, "*batch size"],
        start: Bool[Array, "time *batch"],
    ) -> Float[Array, "time *batch size"]:
        """All steps; memory is cleared before the steps where `start` holds."""
        batch = x.shape[1:-1]
        flat = self.inputs(x).reshape(x.shape[0], -1, 3 * self.size)
        kept = 1.0 - start.reshape(x.shape[0], -1, 1).astype(flat.dtype)
        y = _unroll(flat, h.reshape(-1, self.size), kept, self.recurrent, self.bias)
        return y.reshape(x.shape[0], *batch, self.size)


def _cell(x: Array, h: Array, recurrent: Array, bias: Array) -> tuple[Array, tuple[Array, ...]]:
    """One step from projected inputs; also returns the gates for the backward pass."""
    size = h.shape[-1]
    u = h @ recurrent
    gates = jax.nn.sigmoid(x[..., : 2 * size] + u[..., : 2 * size])
    r, z = gates[..., :size], gates[..., size:]
    inner = u[..., 2 * size :] + bias
    n = jnp.tanh(x[..., 2 * size :] + r * inner)
    return n + z * (h - n), (gates, n, inner)


@jax.custom_vjp
def _unroll(x: Array, h: Array, kept: Array, recurrent: Array, bias: Array) -> Array:
    """Unroll over [time, batch, 3 size] projected inputs; `kept` is 0 where memory is cleared first."""

    def forward(h: Array, step: tuple[Array, Array]) -> tuple[Array, Array]:
        x_t, kept_t = step
        h, _ = _cell(x_t, h * kept_t, recurrent, bias)
        return h, h

    y: Array = jax.lax.scan(forward, h, (x, kept), unroll=UNROLL)[1]
    return y


def _unroll_forward(x: Array, h: Array, kept: Array, recurrent: Array, bias: Array) -> tuple[Array, tuple]:
    def forward(h: Array, step: tuple[Array, Array]) -> tuple[Array, tuple[Array, ...]]:
        x_t, kept_t = step
        h = h * kept_t
        h_next, residuals = _cell(x_t, h, recurrent, bias)
        return h_next, (h_next, h, *residuals)

    _, (y, h_before, gates, n, inner) = jax.lax.scan(forward, h, (x, kept), unroll=UNROLL)
    return y, (h_before, gates, n, inner, kept, recurrent)


def _unroll_backward(residuals: tuple, dy: Array) -> tuple:
    h_before, gates, n, inner, kept, recurrent = residuals
    size = n.shape[-1]
    transposed = recurrent.T

    def backward(dh: Array, step: tuple[Array, ...]) -> tuple[Array, tuple[Array, Array]]:
        dy_t, h, gates_t, n_t, inner_t, kept_t = step
        r, z = gates_t[..., :size], gates_t[..., size:]
        dh = dh + dy_t
        dn = dh * (1 - z) * (1 - n_t * n_t)
        dz = dh * (h - n_t) * z * (1 - z)
        dr = dn * inner_t * r * (1 - r)
        du = jnp.concatenate([dr, dz, dn * r], axis=-1)
        return (dh * z + du @ transposed) * kept_t, (du, dn)

    steps = (dy, h_before, gates, n, inner, kept)
    dh, (du, dn) = jax.lax.scan(backward, jnp.zeros_like(dy[0]), steps, reverse=True, unroll=UNROLL)
    dx = jnp.concatenate([du[..., : 2 * size], dn], axis=-1)
    d_recurrent = jnp.einsum("tbi,tbo->io", h_before, du)
    return dx, dh, None, d_recurrent, du[..., 2 * size :].sum((0, 1))


_unroll.defvjp(_unroll_forward, _unroll_backward)
