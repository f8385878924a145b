"""What a game shows at one moment, and the protocol that steps it; `ludus.core.spec` says what it is."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import equinox as eqx
from jaxtyping import Array, Bool, Float, Int, Key, Shaped

from ludus.core.spec import GameSpec


class TimeStep(eqx.Module):
    """What a game shows at one moment. Dictionaries are keyed by group; slots and agents as in `GroupSpec`.

    A game gives one moment; the runtime stacks many, so axes may lead.
    """

    observation: dict[str, Shaped[Array, "*lead_slot_and_observation"]]
    legal: dict[str, Bool[Array, "*lead slot action"]]  # only groups with `masked`
    acting: dict[str, Bool[Array, "*lead agent"]]  # who moves now; a dead or waiting agent does not
    reward: dict[str, Float[Array, "*lead agent"]]  # for the step that led here
    terminated: Bool[Array, "*lead"]
    truncated: Bool[Array, "*lead"]
    state: Shaped[Array, "*lead_and_state"] | None = None
    seat: dict[str, Int[Array, "*lead slot"]] = eqx.field(default_factory=dict)  # only groups with slots < size

    @property
    def done(self) -> Bool[Array, "*lead"]:
        """Whether the episode ended here, by either cause."""
        return self.terminated | self.truncated


@runtime_checkable
class Environment(Protocol):
    """A partially observable stochastic game as two pure functions on arrays.

    `step` neither resets by itself nor hides the last observation: auto-reset is the runtime's. Actions are one
    array per group, `[slot]` integers or `[slot, ...]` reals; reals outside their bounds are clipped.
    """

    spec: GameSpec

    def reset(self, key: Key[Array, ""]) -> tuple[Any, TimeStep]:
        """Begin an episode."""
        ...

    def step(self, key: Key[Array, ""], state: Any, actions: dict[str, Array]) -> tuple[Any, TimeStep]:
        """Play one step."""
        ...
