"""The methods and games that the tests of this folder share, so that each is compiled and played once."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

import jax

from ludus.algorithms.policy_gradient.batch import Batch
from ludus.algorithms.policy_gradient.estimate import prepare
from ludus.algorithms.policy_gradient.ppo import PPO
from ludus.algorithms.view import view
from ludus.core.algorithm import Learner
from ludus.core.rollout import Rollout
from ludus.networks.torso import Network
from toys import Drift, Turns

KEY = jax.random.key(7)
DRIFT = Drift(agents=3, masked=True)
TURNS, TURNS_CUT = Turns(length=7), Turns(truncates=True)
FEED_FORWARD = Network(hidden=(8,))
RECURRENT = Network(hidden=(8,), memory="gru", memory_size=6)

# A rollout of these methods takes several gradient steps, over epochs and minibatches; gradients are clipped.
SHARED = PPO(rollout_length=12, network=FEED_FORWARD, epochs=2, minibatches=2, max_grad_norm=0.05)
SHARED_GRU = replace(SHARED, network=RECURRENT)
NUMBERED_GRU = replace(SHARED_GRU, agent_ids=True)
ALONE = replace(SHARED, parameters="independent")
ALONE_GRU = replace(ALONE, network=RECURRENT)


@functools.cache
def update_of(method: Any) -> Any:
    """A method's update, compiled once."""
    return jax.jit(lambda learner, rollout: method.update(learner, rollout, key=KEY))


def updated(method: Any, learner: Learner, rollout: Rollout) -> Learner:
    """The learner after one update."""
    return update_of(method)(learner, rollout)[0]


def group_of(learner: Learner) -> Any:
    """The only group's parameters, optimiser and normaliser."""
    (group,) = learner.shared["groups"].values()
    return group


def prepared(method: Any, env: Any, learner: Learner, rollout: Rollout) -> Batch:
    """The batch that the only group's gradients see."""
    group, (memory,) = group_of(learner), learner.per_env.values()
    own = view(rollout, env.spec, env.spec.groups[0], method.critic)
    return prepare(method, group.models, group.normaliser, memory, own, rollout)[0]
