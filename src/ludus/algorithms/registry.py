"""Algorithms by the names of the command line."""

from __future__ import annotations

from typing import Any

from ludus.algorithms.off_policy.ddpg import DDPG
from ludus.algorithms.off_policy.maddpg import MADDPG
from ludus.algorithms.off_policy.sac import SAC
from ludus.algorithms.off_policy.td3 import TD3
from ludus.algorithms.per_team import PerTeam, parse
from ludus.algorithms.policy_gradient.a2c import A2C
from ludus.algorithms.policy_gradient.a3c import A3C
from ludus.algorithms.policy_gradient.appo import APPO
from ludus.algorithms.policy_gradient.coma import COMA
from ludus.algorithms.policy_gradient.impala import IMPALA
from ludus.algorithms.policy_gradient.mappo import MAPPO
from ludus.algorithms.policy_gradient.mmd import MMD
from ludus.algorithms.policy_gradient.ppo import PPO
from ludus.algorithms.policy_gradient.reinforce import REINFORCE
from ludus.algorithms.tabular.joint import CorrelatedQ, FriendOrFoeQ, MinimaxQ, NashQ
from ludus.algorithms.tabular.q_learning import QLearning
from ludus.algorithms.value.dqn import DQN, IQL
from ludus.algorithms.value.nfsp import NFSP
from ludus.algorithms.value.pqn import PQN, PQNVDN
from ludus.algorithms.value.qmix import QMIX
from ludus.algorithms.value.qplex import QPLEX
from ludus.algorithms.value.vdn import VDN
from ludus.core.errors import unknown

ALGORITHMS: dict[str, type[Any]] = {
    "reinforce": REINFORCE,
    "a2c": A2C,
    "a3c": A3C,
    "impala": IMPALA,
    "ppo": PPO,
    "appo": APPO,
    "mappo": MAPPO,
    "mmd": MMD,
    "dqn": DQN,
    "iql": IQL,
    "nfsp": NFSP,
    "vdn": VDN,
    "qmix": QMIX,
    "qplex": QPLEX,
    "pqn": PQN,
    "pqn-vdn": PQNVDN,
    "coma": COMA,
    "ddpg": DDPG,
    "td3": TD3,
    "sac": SAC,
    "maddpg": MADDPG,
    "q-learning": QLearning,
    "minimax-q": MinimaxQ,
    "nash-q": NashQ,
    "friend-or-foe-q": FriendOrFoeQ,
    "correlated-q": CorrelatedQ,
}


def make_algorithm(name: str) -> Any:
    """An algorithm with its default hyperparameters; `team=name,team=name` gives each team its own."""
    return parse(name, make_algorithm) or algorithm_class(name)()


def algorithm_class(name: str) -> type[Any]:
    """The class of that name."""
    if name not in ALGORITHMS:
        raise unknown("algorithm", name, ALGORITHMS)
    return ALGORITHMS[name]


def name_of(algorithm: Any) -> str:
    """The command-line name of an algorithm."""
    if isinstance(algorithm, PerTeam):
        return ",".join(f"{team}={name_of(a)}" for team, a in algorithm.teams.items())
    return next((name for name, kind in ALGORITHMS.items() if type(algorithm) is kind), type(algorithm).__name__)
