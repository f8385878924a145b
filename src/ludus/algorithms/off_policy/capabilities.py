"""What off-policy actor–critic methods cannot do, said before anything compiles."""

from __future__ import annotations

from typing import Any

from ludus.core.spaces import Box
from ludus.core.spec import GameSpec


def misfit(method: Any, spec: GameSpec, num_envs: int) -> str | None:
    """Why an `OffPolicyActorCritic` cannot learn this game with so many environments per device, and what would fit."""
    name = type(method).__name__
    if spec.turns != "simultaneous" or any(g.slots != g.size for g in spec.groups):
        return f"{name} learns games whose agents act at once, and {spec.name} is played in turns; ppo or dqn fits"
    for group in spec.groups:
        if isinstance(group.action, Box):
            if not group.action.bounded:
                return f"{name} needs bounded continuous actions, but those of group '{group.name}' have no bounds"
        elif method.continuous_only:
            return f"{name} needs continuous actions, and those of group '{group.name}' are discrete; ddpg or dqn fits"
        if method.network.conv and len(group.observation.shape) != 3:
            return (
                f"network.conv needs observations of shape (height, width, channels), but group '{group.name}' "
                f"of {spec.name} has {group.observation.shape}; use network.hidden alone"
            )
    for team in method.local_teams:
        if team not in spec.teams:
            return f"local_teams names '{team}', and the teams of {spec.name} are: {', '.join(spec.teams)}"
    if method.network.memory != "none":
        return f"{name} has feed-forward policies; take network.memory=none, or ppo or qmix for memory"
    if method.ensemble < 1:
        return f"ensemble must be at least 1, not {method.ensemble}"
    if method.n_step > method.rollout_length:
        return (
            f"{method.n_step}-step returns need segments at least as long, not rollout_length={method.rollout_length}"
        )
    if max(num_envs, method.batch_size) % min(num_envs, method.batch_size):
        return f"batch_size={method.batch_size} and {num_envs} environments per device must divide one another"
    if method.capacity < num_envs * method.rollout_length:
        return f"capacity={method.capacity} does not hold one rollout of {num_envs * method.rollout_length} steps"
    if method.agent_ids and method.parameters == "independent":
        return "agent_ids tell agents with shared parameters apart; with parameters=independent they must be off"
    return None
