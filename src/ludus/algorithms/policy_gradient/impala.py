"""IMPALA (Espeholt et al. 2018): an actor–critic whose experience may be some updates old, corrected by V-trace."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Array

from ludus.algorithms.policy_gradient.a2c import A2C


@dataclass(frozen=True)
class IMPALA(A2C):
    """One gradient step on each rollout, with V-trace's targets and advantages; on-policy it is A2C."""

    rollout_length: int = 32
    """n: steps of every environment that one update consumes."""
    clip_rho: float = 1.0  # type: ignore[assignment]
    """ρ̄: weights π/μ of what a step teaches are cut off here; it decides to which policy's values critics converge."""

    def weigh(self, advantage: Array, rho: Array | None) -> Array:
        """ρ (r + γ v' − V), section 4.2."""
        return advantage if rho is None else rho * advantage
