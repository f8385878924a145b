"""Advantage actor–critic, the synchronous form of A3C (Mnih et al. 2016): one gradient step a short rollout."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ludus.algorithms.policy_gradient.actor_critic import ActorCritic


@dataclass(frozen=True)
class A2C(ActorCritic):
    """n-step advantages (`trace` 1, bootstrapped by the critic), one step of gradient on all of them."""

    learning_rate: float = 7e-4
    """Step size of the optimiser."""
    optimiser: Literal["adam", "rmsprop"] = "adam"
    """How gradients are scaled; the paper's is RMSProp."""
    trace: float = 1.0
    """λ of generalised advantage estimation; 1 is the n-step return of the paper."""
    rollout_length: int = 16
    """n: steps of every environment that one update consumes."""
