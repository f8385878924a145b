"""Value decomposition networks (Sunehag et al. 2018)."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Array, Key

from ludus.algorithms.value.replay import ValueLearner
from ludus.networks.mixers import Mixer, Sum


@dataclass(frozen=True)
class VDN(ValueLearner):
    """A team's value is the sum of its agents' values."""

    mixes = True

    def mixer(self, agents: int, state: int, *, key: Key[Array, ""]) -> Mixer:
        """The sum."""
        return Sum()
