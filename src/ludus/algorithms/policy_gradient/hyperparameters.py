"""The hyperparameters that all policy-gradient methods have."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from ludus.networks.torso import Network


@dataclass(frozen=True)
class Hyperparameters:
    """Fields are flags of the command line, with these texts as help."""

    learning_rate: float = 3e-4
    """Step size of Adam."""
    anneal: bool = True
    """Whether the step size falls linearly to zero over the planned steps."""
    discount: float = 0.99
    """Discount factor per acting step."""
    trace: float = 0.95
    """λ of generalised advantage estimation: 0 is one-step, 1 Monte Carlo with the critic as baseline."""
    entropy_weight: float = 0.01
    """Weight of the entropy bonus."""
    value_weight: float = 0.5
    """Weight of the critic's loss."""
    max_grad_norm: float = 0.5
    """Gradients of a larger global norm are scaled down to it."""
    rollout_length: int = 128
    """Steps of every environment that one update consumes."""
    parameters: Literal["shared", "independent"] = "shared"
    """One set of parameters for the agents of a group, or one for each."""
    critic: Literal["local", "central"] = "local"
    """Whether critics see their agent's observation, or the global state (else all observations)."""
    agent_ids: bool = False
    """Append a one-hot agent number to observations, so that agents with shared parameters can differ."""
    normalise_values: bool = False
    """Critics predict targets divided by their running deviation, as in MAPPO."""
    network: Network = field(default_factory=Network)
    """The policy's network; the critic has its own of the same shape."""
    share_torso: bool = False
    """Policy and critic share all layers up to memory; those after it, and the heads, are their own."""

    @property
    def wants_memories(self) -> bool:
        """Whether the critic reads what the policy remembers, so that values need no pass of their own."""
        return self.share_torso and self.network.memory != "none"
