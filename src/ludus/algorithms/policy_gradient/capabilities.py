"""What policy-gradient methods cannot do, said before anything compiles."""

from __future__ import annotations

from typing import Any

from ludus.core.spaces import Discrete
from ludus.core.spec import GameSpec


def misfit(method: Any, spec: GameSpec, num_envs: int) -> str | None:
    """Why an `ActorCritic` cannot learn this game with so many environments per device, and what would fit."""
    name = type(method).__name__
    for group in spec.groups:
        bounded = getattr(group.action, "bounded", True)
        if not bounded:
            return f"{name} needs bounded continuous actions, but those of group '{group.name}' have no bounds"
        if method.network.conv and len(group.observation.shape) != 3:
            return (
                f"network.conv needs observations of shape (height, width, channels), but group '{group.name}' "
                f"of {spec.name} has {group.observation.shape}; use network.hidden alone"
            )
        if method.critic == "central" and group.slots != group.size and spec.state is None:
            return (
                f"a central critic needs the global state or all observations at once, but {spec.name} shows only "
                f"the mover's; ppo with its local critic fits"
            )
    if method.agent_ids and method.parameters == "independent":
        return "agent_ids tell agents with shared parameters apart; with parameters=independent they must be off"
    if method.share_torso and method.critic == "central":
        return "share_torso needs a local critic: a central critic has other inputs than the policy"
    size, unit = (
        (num_envs, "environments per device")
        if method.network.memory != "none"
        else (
            method.rollout_length,
            "steps of a rollout",
        )
    )
    if size % method.minibatches:
        fits = max(m for m in range(1, method.minibatches + 1) if size % m == 0)
        return f"{method.minibatches} minibatches do not divide {size} {unit}; {fits} would"
    return None


def misfit_coma(method: Any, spec: GameSpec) -> str | None:
    """Why `COMA` cannot learn this game, and what would fit."""
    for group in spec.groups:
        if not isinstance(group.action, Discrete):
            return f"COMA needs discrete actions, and those of group '{group.name}' are continuous; mappo fits"
        if group.slots != group.size or group.rivals:
            return f"COMA learns teams whose agents act at once, which {spec.name} does not have; ppo fits"
    if method.agent_ids and method.parameters == "independent":
        return "agent_ids tell agents with shared parameters apart; with parameters=independent they must be off"
    return None
