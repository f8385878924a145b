"""DDPG (Lillicrap et al. 2016); with several agents, independent DDPG."""

from __future__ import annotations

from dataclasses import dataclass

from ludus.algorithms.off_policy.core import OffPolicyActorCritic


@dataclass(frozen=True)
class DDPG(OffPolicyActorCritic):
    """A deterministic actor climbs its critic; discrete actions by straight-through Gumbel-softmax."""
