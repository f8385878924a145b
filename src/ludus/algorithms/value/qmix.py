"""QMIX (Rashid et al. 2018)."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Array, Key

from ludus.algorithms.value.replay import ValueLearner
from ludus.networks.mixers import Mixer, Monotone


@dataclass(frozen=True)
class QMIX(ValueLearner):
    """A team's value is a monotone function of its agents' values, given by the state."""

    mixes = True
    mixer_width: int = 32
    """Units of the mixer."""
    hyper_width: int = 0
    """Hidden units between the state and the mixer's weights; 0 makes them linear in it."""

    def mixer(self, agents: int, state: int, *, key: Key[Array, ""]) -> Mixer:
        """The monotone network."""
        return Monotone.init(agents, state, width=self.mixer_width, hyper=self.hyper_width, key=key)
