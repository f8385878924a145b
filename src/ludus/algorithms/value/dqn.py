"""DQN (Mnih et al. 2015); with several agents, independent DQN (IQL: Tampuu et al. 2017)."""

from __future__ import annotations

from dataclasses import dataclass

from ludus.algorithms.value.replay import ValueLearner


@dataclass(frozen=True)
class DQN(ValueLearner):
    """Every agent learns its own values and takes the others for part of the world."""


@dataclass(frozen=True)
class IQL(DQN):
    """Independent DQN under its multi-agent name."""
