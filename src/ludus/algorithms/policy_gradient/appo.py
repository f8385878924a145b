"""Asynchronous PPO (Petrenko et al. 2020, as in Sample Factory): PPO's objective on V-trace's advantages."""

from __future__ import annotations

from dataclasses import dataclass

from ludus.algorithms.policy_gradient.ppo import PPO


@dataclass(frozen=True)
class APPO(PPO):
    """The clipped objective weighs each step by π/μ itself, so advantages come without ρ; targets are V-trace's."""

    epochs: int = 1
    """Passes over each rollout."""
    rollout_length: int = 32
    """Steps of every environment that one update consumes."""
    clip_rho: float = 1.0  # type: ignore[assignment]
    """ρ̄: weights π/μ of what a step teaches the critic are cut off here."""
