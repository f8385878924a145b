"""The hyperparameters that all off-policy actor–critic methods have."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from ludus.networks.torso import Network


@dataclass(frozen=True)
class Hyperparameters:
    """Fields are flags of the command line, with these texts as help."""

    learning_rate: float = 1e-3
    """Step size of Adam, for actors and critics."""
    anneal: bool = False
    """Whether the step size falls linearly to zero over the planned steps."""
    discount: float = 0.99
    """Discount factor per acting step."""
    n_step: int = 1
    """n of n-step returns within a segment."""
    rollout_length: int = 1
    """Steps of every environment between updates; also the length of a replayed segment."""
    updates: int = 1
    """Gradient steps after each rollout."""
    batch_size: int = 256
    """Segments of a gradient step, over all devices."""
    capacity: int = 100_000
    """Environment steps that the replay holds, over all environments."""
    warm_up: int = 1_000
    """Environment steps before the first gradient step; until then continuous actions are uniformly random."""
    target_rate: float = 0.005
    """How far target networks move towards the newest ones at each gradient step."""
    policy_every: int = 1
    """Gradient steps of the critics for each of the actors."""
    noise: float = 0.1
    """Deviation of the exploration noise of continuous actions, in half-widths of their box, at the beginning."""
    final_noise: float = 0.1
    """The same at the end."""
    regulariser: float = 0.0
    """Weight of the mean square of the actors' outputs before squashing or normalisation."""
    max_grad_norm: float = 10.0
    """Gradients of a larger global norm are scaled down to it, for each network."""
    critic: Literal["local", "central"] = "local"
    """Whether critics see their agent's observation and action, or everybody's (and the global state, if any)."""
    parameters: Literal["shared", "independent"] = "shared"
    """One actor and critic for the agents of a group, or one for each."""
    agent_ids: bool = False
    """Append a one-hot agent number to actors' observations, so that agents with shared parameters can differ."""
    network: Network = field(default_factory=lambda: Network(hidden=(128, 128), activation="relu"))
    """The actor's network; critics have the same layers."""
