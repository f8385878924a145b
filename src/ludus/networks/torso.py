"""The torso: from observations, and memory, to features. `Network` is its configuration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, Shaped

from ludus.core.policy import Memory
from ludus.networks.gru import GRU
from ludus.networks.layers import ACTIVATIONS, Conv, LayerNorm, Linear


@dataclass(frozen=True)
class Network:
    """The shape of a network."""

    hidden: tuple[int, ...] = (64, 64)
    """Widths of the fully connected layers, before memory if there is one."""
    activation: Literal["tanh", "relu", "elu", "gelu", "silu"] = "tanh"
    """Non-linearity after every layer."""
    layer_norm: bool = False
    """Layer normalisation before every non-linearity of a fully connected layer."""
    conv: tuple[int, ...] = ()
    """Channels of 3 × 3 convolutions before them; needs observations of shape (height, width, channels)."""
    memory: Literal["none", "gru"] = "none"
    """Recurrent memory."""
    memory_size: int = 128
    """Units of memory."""
    after: tuple[int, ...] = ()
    """Widths of fully connected layers after memory."""


class Layers(eqx.Module):
    """Fully connected layers with a non-linearity each."""

    linears: tuple[Linear, ...]
    norms: tuple[LayerNorm, ...]
    activation: str = eqx.field(static=True)

    @staticmethod
    def init(inputs: int, widths: tuple[int, ...], network: Network, *, key: Key[Array, ""]) -> Layers:
        """Layers of these widths."""
        sizes = (inputs, *widths)
        keys = jax.random.split(key, max(len(widths), 1))
        linears = tuple(Linear.init(a, b, key=k) for a, b, k in zip(sizes[:-1], sizes[1:], keys, strict=False))
        norms = tuple(LayerNorm.init(w) for w in widths) if network.layer_norm else ()
        return Layers(linears, norms, network.activation)

    def __call__(self, x: Float[Array, "*batch in"]) -> Float[Array, "*batch out"]:
        for i, linear in enumerate(self.linears):
            x = linear(x)
            if self.norms:
                x = self.norms[i](x)
            x = ACTIVATIONS[self.activation](x)
        return x


class Torso(eqx.Module):
    """Observation to features: convolutions, layers, memory, layers; each part optional."""

    conv: tuple[Conv, ...]
    before: Layers
    gru: GRU | None
    after: Layers
    observation_rank: int = eqx.field(static=True)
    agents: int = eqx.field(static=True)  # more than 0: a one-hot agent number is appended to observations

    @staticmethod
    def init(shape: tuple[int, ...], network: Network, *, agents: int = 0, key: Key[Array, ""]) -> Torso:
        """A torso for observations of this shape."""
        key_conv, key_before, key_gru, key_after = jax.random.split(key, 4)
        channels = (shape[-1], *network.conv) if network.conv else ()
        conv_keys = jax.random.split(key_conv, max(len(network.conv), 1))
        conv = tuple(Conv.init(a, b, key=k) for a, b, k in zip(channels[:-1], channels[1:], conv_keys, strict=False))
        size = 1
        for n in shape[:-1] + (channels[-1:] or shape[-1:]):
            size *= n
        before = Layers.init(size + agents, network.hidden, network, key=key_before)
        size = network.hidden[-1] if network.hidden else size + agents
        gru = GRU.init(size, network.memory_size, key=key_gru) if network.memory == "gru" else None
        after = Layers.init(gru.size if gru else size, network.after, network, key=key_after)
        return Torso(conv, before, gru, after, len(shape), agents)

    @property
    def recurrent(self) -> bool:
        """Whether it carries memory."""
        return self.gru is not None

    def initial_memory(self, batch: tuple[int, ...]) -> Memory:
        """Zeros, or nothing without memory."""
        return jnp.zeros((*batch, self.gru.size)) if self.gru is not None else ()

    def _encode(self, x: Shaped[Array, "..."], agent: Int[Array, "..."] | None) -> Float[Array, "..."]:
        x = x.astype(jnp.float32)
        for conv in self.conv:
            x = ACTIVATIONS[self.before.activation](conv(x))
        if self.observation_rank != 1:
            lead = x.shape[: x.ndim - self.observation_rank]
            x = x.reshape(*lead, -1)
        if self.agents:
            if agent is None:
                agent = jnp.arange(x.shape[-2])
            hot = jax.nn.one_hot(agent, self.agents)
            x = jnp.concatenate([x, jnp.broadcast_to(hot, (*x.shape[:-1], self.agents))], axis=-1)
        return self.before(x)

    def step(
        self, x: Shaped[Array, "..."], memory: Memory, agent: Int[Array, "..."] | None = None
    ) -> tuple[Float[Array, "... feature"], Memory]:
        """One step for any leading axes; memory has the same."""
        core, memory = self.step_core(x, memory, agent)
        return self.after(core), memory

    def step_core(
        self, x: Shaped[Array, "..."], memory: Memory, agent: Int[Array, "..."] | None = None
    ) -> tuple[Float[Array, "... core"], Memory]:
        """One step, without the layers after memory."""
        features = self._encode(x, agent)
        if self.gru is not None:
            features = memory = self.gru.step(features, memory)
        return features, memory

    def unroll_core(
        self,
        x: Shaped[Array, "time env slot ..."],
        memory: Memory,
        start: Bool[Array, "time env"],
        seat: Int[Array, "time env slot"] | None = None,
        acting: Bool[Array, "time env agent"] | None = None,
    ) -> tuple[Float[Array, "time env slot core"], Memory]:
        """All steps of a rollout, without the layers after memory; the second result is memory after every step,
        `[time, env, agent, size]`.

        With `seat`, each row belongs to that agent of the group, and only the memory of agents that act changes.
        """
        features = self._encode(x, seat)
        if self.gru is None:
            return features, ()
        if seat is None:
            begins = jnp.broadcast_to(start[:, :, None], features.shape[:3])
            memories = features = self.gru.unroll(features, memory, begins)
        else:
            features, memories = _unroll_seats(self.gru, features, memory, start, seat, acting)
        return features, memories

    @property
    def core_size(self) -> int:
        """The width of what the layers after memory read."""
        if self.gru is not None:
            return self.gru.size
        if not self.before.linears:
            raise ValueError("a network needs at least one hidden layer")
        return int(self.before.linears[-1].weight.shape[-1])


def _unroll_seats(
    gru: GRU, x: Array, memory: Array, start: Array, seat: Array, acting: Array | None
) -> tuple[Array, Array]:
    """Unroll where row s of a step updates the memory of agent `seat[s]`, if that agent acts."""
    agents = memory.shape[1]

    def forward(h: Array, step: tuple[Array, ...]) -> tuple[Array, tuple[Array, Array]]:
        x_t, start_t, seat_t, acting_t = step
        h = jnp.where(start_t[:, None, None], 0.0, h)
        y = gru.step(x_t, jnp.take_along_axis(h, seat_t[..., None], axis=1))
        mine = (seat_t[:, :, None] == jnp.arange(agents)) & acting_t[:, None, :]
        spread = jnp.einsum("esa,esh->eah", mine.astype(y.dtype), y)
        h = jnp.where(mine.any(1)[..., None], spread, h)
        return h, (y, h)

    if acting is None:
        acting = jnp.ones((*x.shape[:2], agents), bool)
    _, (features, memories) = jax.lax.scan(forward, memory, (x, start, seat, acting))
    return features, memories
