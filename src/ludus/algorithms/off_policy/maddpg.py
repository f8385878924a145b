"""MADDPG (Lowe et al. 2017): everybody has an actor and a critic of their own, and critics see everybody."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from ludus.algorithms.off_policy.core import OffPolicyActorCritic
from ludus.networks.torso import Network


@dataclass(frozen=True)
class MADDPG(OffPolicyActorCritic):
    """DDPG with centralised critics, for games of any kind; with the paper's inferred policies and ensembles."""

    critic: Literal["local", "central"] = "central"
    """Whether critics see their agent's observation and action, or everybody's (and the global state, if any)."""
    parameters: Literal["shared", "independent"] = "independent"
    """One actor and critic for the agents of a group, or one for each."""
    discount: float = 0.95
    """Discount factor per acting step."""
    target_rate: float = 0.01
    """How far target networks move towards the newest ones at each gradient step."""
    regulariser: float = 1e-3
    """Weight of the mean square of the actors' outputs before squashing or normalisation."""
    max_grad_norm: float = 0.5
    """Gradients of a larger global norm are scaled down to it, for each network."""
    local_teams: tuple[str, ...] = ()
    """Teams that learn by DDPG instead: their critics see their own agent only."""
    infer_others: bool = False
    """Expect of the others what each agent infers from their past actions, instead of knowing their policies."""
    infer_entropy: float = 1e-3
    """Weight of entropy in that inference."""
    ensemble: int = 1
    """Sub-policies of each agent; one is drawn for each episode, and learns from the episodes it played."""
    network: Network = field(default_factory=lambda: Network(hidden=(64, 64), activation="relu"))
    """The actor's network; critics have the same layers."""
