"""Ludus trains populations of agents in any kind of game."""

from __future__ import annotations

from ludus.algorithms.off_policy.ddpg import DDPG
from ludus.algorithms.off_policy.maddpg import MADDPG
from ludus.algorithms.off_policy.sac import SAC
from ludus.algorithms.off_policy.td3 import TD3
from ludus.algorithms.per_team import PerTeam
from ludus.algorithms.policy_gradient.a2c import A2C
from ludus.algorithms.policy_gradient.a3c import A3C
from ludus.algorithms.policy_gradient.appo import APPO
from ludus.algorithms.policy_gradient.coma import COMA
from ludus.algorithms.policy_gradient.impala import IMPALA
from ludus.algorithms.policy_gradient.mappo import MAPPO
from ludus.algorithms.policy_gradient.ppo import PPO
from ludus.algorithms.policy_gradient.reinforce import REINFORCE
from ludus.algorithms.tabular.joint import CorrelatedQ, FriendOrFoeQ, MinimaxQ, NashQ
from ludus.algorithms.tabular.q_learning import QLearning
from ludus.algorithms.value.dqn import DQN, IQL
from ludus.algorithms.value.pqn import PQN, PQNVDN
from ludus.algorithms.value.qmix import QMIX
from ludus.algorithms.value.qplex import QPLEX
from ludus.algorithms.value.vdn import VDN
from ludus.core.errors import NotFiniteError, UsageError
from ludus.core.game import Environment, GameSpec, GroupSpec, TimeStep
from ludus.core.spaces import Box, Discrete
from ludus.envs.registry import register
from ludus.experiment.api import evaluate, load, load_policy, make, resume, train
from ludus.experiment.league import league, open_league
from ludus.experiment.solve import solve
from ludus.experiment.train import Run
from ludus.networks.torso import Network

__version__ = "0.1.0"
__all__ = [
    "A2C",
    "A3C",
    "APPO",
    "COMA",
    "DDPG",
    "DQN",
    "IMPALA",
    "IQL",
    "MADDPG",
    "MAPPO",
    "PPO",
    "PQN",
    "PQNVDN",
    "QMIX",
    "QPLEX",
    "REINFORCE",
    "SAC",
    "TD3",
    "VDN",
    "Box",
    "CorrelatedQ",
    "Discrete",
    "Environment",
    "FriendOrFoeQ",
    "GameSpec",
    "GroupSpec",
    "MinimaxQ",
    "NashQ",
    "Network",
    "NotFiniteError",
    "PerTeam",
    "QLearning",
    "Run",
    "TimeStep",
    "UsageError",
    "evaluate",
    "league",
    "load",
    "load_policy",
    "make",
    "open_league",
    "register",
    "resume",
    "solve",
    "train",
]
