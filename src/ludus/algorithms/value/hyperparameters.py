"""The hyperparameters that all learners of action values have."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from ludus.networks.torso import Network


@dataclass(frozen=True)
class Hyperparameters:
    """Fields are flags of the command line, with these texts as help."""

    learning_rate: float = 5e-4
    """Step size of Adam."""
    anneal: bool = False
    """Whether the step size falls linearly to zero over the planned steps."""
    discount: float = 0.99
    """Discount factor per acting step."""
    reward_scale: float = 1.0
    """What rewards are multiplied by before values learn them: small values drown in the noise of fresh networks."""
    trace: float = 0.0
    """λ of λ-returns within a segment: 0 is one step."""
    rollout_length: int = 8
    """Steps of every environment that one update consumes; also the length of a replayed segment."""
    dueling: bool = False
    """Whether values are split into a state's and the actions' advantages (Wang et al. 2016)."""
    max_grad_norm: float = 10.0
    """Gradients of a larger global norm are scaled down to it."""
    explore: float = 1.0
    """ε at the beginning (or the Boltzmann temperature)."""
    final_explore: float = 0.05
    """ε (or the temperature) at the end."""
    explore_share: float = 0.1
    """The share of the planned steps over which it falls linearly."""
    exploration: Literal["epsilon", "boltzmann"] = "epsilon"
    """Uniform with probability ε, or a softmax of values."""
    parameters: Literal["shared", "independent"] = "shared"
    """One set of parameters for the agents of a group, or one for each."""
    agent_ids: bool = False
    """Append a one-hot agent number to observations, so that agents with shared parameters can differ."""
    network: Network = field(default_factory=Network)
    """The action-value network."""


@dataclass(frozen=True)
class ReplayHyperparameters(Hyperparameters):
    """Those of learning from replay, towards target networks."""

    n_step: int = 1
    """n of n-step returns within a segment (with trace 0)."""
    updates: int = 1
    """Gradient steps after each rollout."""
    batch_size: int = 32
    """Segments of a gradient step, over all devices."""
    capacity: int = 100_000
    """Environment steps that the replay holds, over all environments."""
    warm_up: int = 1_000
    """Environment steps before the first gradient step."""
    burn_in: int = 0
    """First steps of a segment that only warm up memory."""
    target_every: int = 200
    """Gradient steps between copies to the target network (with target_rate 1)."""
    target_rate: float = 1.0
    """How far the target network moves towards the newest one at each of those; small for soft updates."""
    double: bool = True
    """Whether the newest network chooses the action whose target value is taken (van Hasselt et al. 2016)."""
    quantiles: int = 1
    """More than 1: learn so many quantiles of returns (QR-DQN: Dabney et al. 2018)."""
    prioritised: bool = False
    """Whether segments are sampled by their errors (Schaul et al. 2016)."""
    priority_exponent: float = 0.6
    """How strongly errors count in sampling."""
    priority_correction: float = 0.4
    """How strongly importance weights correct for it at the beginning; fully at the end."""
    huber: float = 0.0
    """More than 0: errors beyond it count linearly."""
