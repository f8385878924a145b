"""QPLEX (Wang et al. 2021)."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Array, Key

from ludus.algorithms.value.replay import ValueLearner
from ludus.networks.mixers import Mixer, Plex


@dataclass(frozen=True)
class QPLEX(ValueLearner):
    """A team's value is its agents' values plus advantages weighed by state and joint advantages."""

    mixes = True
    mixer_width: int = 64
    """Units of the mixer."""

    def mixer(self, agents: int, state: int, *, key: Key[Array, ""]) -> Mixer:
        """The duplex dueling network."""
        return Plex.init(agents, state, width=self.mixer_width, key=key)
