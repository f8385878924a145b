"""Action values, and the policies that act on them."""

from __future__ import annotations

from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, Shaped

from ludus.core.policy import Memory
from ludus.core.spaces import Discrete
from ludus.core.spec import GroupSpec
from ludus.networks.acting import Acts
from ludus.networks.distributions import Categorical
from ludus.networks.layers import Linear
from ludus.networks.torso import Network, Torso

Exploration = Literal["epsilon", "boltzmann"]


class QNetwork(eqx.Module):
    """Observation to one value for each action, or to `quantiles` of it; dueling: V + A − mean A (Wang et al. 2016)."""

    torso: Torso
    advantage: Linear
    value: Linear | None
    actions: int = eqx.field(static=True)
    quantiles: int = eqx.field(static=True)

    @staticmethod
    def init(
        group: GroupSpec,
        network: Network,
        *,
        dueling: bool,
        quantiles: int = 1,
        agent_ids: bool = False,
        key: Key[Array, ""],
    ) -> QNetwork:
        """Fresh parameters for a group."""
        key_torso, key_advantage, key_value = jax.random.split(key, 3)
        assert isinstance(group.action, Discrete)
        torso = Torso.init(group.observation.shape, network, agents=group.size if agent_ids else 0, key=key_torso)
        width = network.after[-1] if network.after else torso.core_size
        actions = group.action.n
        value = Linear.init(width, quantiles, key=key_value, scale=1.0) if dueling else None
        advantage = Linear.init(width, actions * quantiles, key=key_advantage, scale=1.0)
        return QNetwork(torso, advantage, value, actions, quantiles)

    def read(self, core: Float[Array, "*batch core"]) -> Float[Array, "*batch action quantile"]:
        """Values off the torso's core."""
        features = self.torso.after(core)
        advantage = self.advantage(features)
        advantage = advantage.reshape(*advantage.shape[:-1], self.actions, self.quantiles)
        if self.value is None:
            return advantage
        return self.value(features)[..., None, :] + advantage - advantage.mean(-2, keepdims=True)


class QPolicy(Acts):
    """ε-greedy, or a softmax of values; without exploring, greedy."""

    network: QNetwork
    amount: Float[Array, "*stack"]  # ε, or the temperature
    kind: Exploration = eqx.field(static=True)

    @property
    def torso(self) -> Torso:
        """The network's."""
        return self.network.torso

    def initial_memory(self, batch: tuple[int, ...]) -> Memory:
        """Zeros for a recurrent torso, else ()."""
        return self.network.torso.initial_memory(batch)

    def distribution(
        self,
        observation: Shaped[Array, "..."],
        legal: Bool[Array, "..."] | None = None,
        memory: Memory = (),
        *,
        explore: bool = True,
        agent: Int[Array, "..."] | None = None,
    ) -> tuple[Categorical, Memory]:
        """See `ludus.core.policy.Stochastic.distribution`."""
        observation, torso = jnp.asarray(observation), self.network.torso
        if torso.recurrent and isinstance(memory, tuple):
            memory = self.initial_memory(observation.shape[: observation.ndim - torso.observation_rank])
        core, memory = torso.step_core(observation, memory, agent)
        values = self.network.read(core).mean(-1)
        return exploring(values, legal, self.amount if explore else None, self.kind), memory


def exploring(
    values: Float[Array, "*batch action"],
    legal: Bool[Array, "*batch action"] | None,
    amount: Float[Array, ""] | None,
    kind: str,
) -> Categorical:
    """The distribution over legal actions; `amount` None is greedy, ties to the first."""
    lowest = jnp.finfo(values.dtype).min
    masked = values if legal is None else jnp.where(legal, values, lowest)
    if kind == "boltzmann" and amount is not None:
        return Categorical.of(masked / jnp.maximum(amount, 1e-6), legal)
    best = jax.nn.one_hot(jnp.argmax(masked, -1), values.shape[-1], dtype=values.dtype)
    if amount is not None:
        allowed = jnp.ones_like(values) if legal is None else legal.astype(values.dtype)
        best = (1 - amount) * best + amount * allowed / allowed.sum(-1, keepdims=True)
    return Categorical(jnp.where(best > 0, jnp.log(jnp.where(best > 0, best, 1)), lowest))
