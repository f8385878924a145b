"""What acts: a policy is a value, a pytree that can be stacked, vmapped, stored and sent."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import equinox as eqx
from jaxtyping import Array, Bool, Float, Int, Key, Shaped

Memory = Any  # a pytree of arrays with the batch axes in front; () for a policy without memory


class Decision(eqx.Module):
    """What a policy decided for one batch of observations."""

    action: Shaped[Array, "*batch_and_action"]
    log_prob: Float[Array, "*batch"]
    memory: Memory
    extras: dict[str, Array] = eqx.field(default_factory=dict)


@runtime_checkable
class Policy(Protocol):
    """Turns observations, legal actions and memory into actions, for the agents of one group."""

    def initial_memory(self, batch: tuple[int, ...]) -> Memory:
        """The memory at the start of an episode."""
        ...

    def act(
        self,
        observation: Shaped[Array, "*batch slot ..."],
        legal: Bool[Array, "*batch slot action"] | None = None,
        memory: Memory = (),
        *,
        key: Key[Array, ""] | None = None,
        explore: bool = False,
        agent: Int[Array, "*batch slot"] | None = None,
    ) -> Decision:
        """Decide. Without `explore` the most likely action is taken and no key is needed.

        `agent` says which agent of the group each row belongs to (default: row i is agent i).
        """
        ...


@runtime_checkable
class Stochastic(Policy, Protocol):
    """A policy that shows what it samples from, so that games can be evaluated exactly."""

    def distribution(
        self,
        observation: Shaped[Array, "*batch slot ..."],
        legal: Bool[Array, "*batch slot action"] | None = None,
        memory: Memory = (),
        *,
        explore: bool = True,
        agent: Int[Array, "*batch slot"] | None = None,
    ) -> tuple[Any, Memory]:
        """The action distribution, with `log_probs` where actions are discrete, and the memory after it."""
        ...
