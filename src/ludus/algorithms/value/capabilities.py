"""What learners of action values cannot do, said before anything compiles."""

from __future__ import annotations

from typing import Any

from ludus.core.spaces import Discrete
from ludus.core.spec import GameSpec


def misfit(method: Any, spec: GameSpec) -> str | None:
    """Why a learner of action values cannot learn this game, and what would fit."""
    name = type(method).__name__
    for group in spec.groups:
        if not isinstance(group.action, Discrete):
            return f"{name} needs discrete actions, and those of group '{group.name}' are continuous; ppo learns those"
    if method.mixes:
        if spec.turns != "simultaneous" or any(g.slots != g.size for g in spec.groups):
            return f"{name} mixes values of agents that act at once, and {spec.name} is played in turns; dqn fits"
        if any(g.rivals for g in spec.groups):
            return f"{name} mixes the values of team mates, and those of {spec.name} are rivals; dqn fits"
        if method.quantiles > 1:
            return f"{name} mixes expected values; quantiles are dqn's"
    if method.agent_ids and method.parameters == "independent":
        return "agent_ids tell agents with shared parameters apart; with parameters=independent they must be off"
    return None


def misfit_replay(method: Any, num_envs: int) -> str | None:
    """Why a `ValueLearner` cannot work with so many environments per device."""
    if method.n_step > 1 and method.trace > 0:
        return "n_step and trace are two ways of looking ahead; leave one at its default"
    if method.n_step > method.rollout_length:
        return (
            f"{method.n_step}-step returns need segments at least as long, not rollout_length={method.rollout_length}"
        )
    if method.burn_in >= method.rollout_length:
        return f"burn_in={method.burn_in} leaves nothing of segments of {method.rollout_length} steps"
    if max(num_envs, method.batch_size) % min(num_envs, method.batch_size):
        return f"batch_size={method.batch_size} and {num_envs} environments per device must divide one another"
    if method.capacity < num_envs * method.rollout_length:
        return f"capacity={method.capacity} does not hold one rollout of {num_envs * method.rollout_length} steps"
    return None
