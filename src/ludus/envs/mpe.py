"""The multi-agent particle environments (Lowe et al. 2017) as JaxMARL implements them.

Episodes end by a time limit only, which is a truncation. JaxMARL counts one step more than `max_steps`.
"""

from __future__ import annotations

from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from ludus.core.game import TimeStep
from ludus.core.spec import GameSpec, RewardKind
from ludus.envs.jaxmarl_common import all_act, group, no_reward, stack, stack_rewards, unstack
from ludus.envs.parts import import_part

# name -> (reward kind, {prefix of agents' names: (group, team)})
_SCENARIOS: dict[str, tuple[RewardKind, dict[str, tuple[str, str]]]] = {
    "simple": ("common", {"agent": ("agents", "team")}),
    "simple_spread": ("general-sum", {"agent": ("agents", "team")}),
    "simple_reference": ("general-sum", {"agent": ("agents", "team")}),
    "simple_speaker_listener": (
        "common",
        {"speaker": ("speaker", "team"), "listener": ("listener", "team")},
    ),
    "simple_tag": (
        "general-sum",
        {"adversary": ("predators", "predators"), "agent": ("prey", "prey")},
    ),
    "simple_adversary": (
        "general-sum",
        {"adversary": ("adversary", "adversary"), "agent": ("agents", "agents")},
    ),
    "simple_push": (
        "general-sum",
        {"adversary": ("adversary", "adversary"), "agent": ("agents", "agents")},
    ),
    "simple_crypto": (
        "general-sum",
        {"eve": ("eve", "eve"), "bob": ("bob", "pair"), "alice": ("alice", "pair")},
    ),
    "simple_world_comm": (
        "general-sum",
        {
            "leadadversary": ("leader", "predators"),
            "adversary": ("predators", "predators"),
            "agent": ("prey", "prey"),
        },
    ),
}
NAMES = tuple(_SCENARIOS)


class MPE:
    """One scenario."""

    def __init__(self, name: str, **options: Any):
        kind, roles = _SCENARIOS[name]
        module = import_part(f"jaxmarl.environments.mpe.{name}")
        suite: Any = getattr(module, name.title().replace("_", "") + "MPE")(**options)
        self.suite = suite
        by_role: dict[str, list[str]] = {}
        for agent in self.suite.agents:
            by_role.setdefault(agent.rsplit("_", 1)[0], []).append(agent)
        self.members = tuple(group(self.suite, *roles[role], agents) for role, agents in by_role.items())
        groups = tuple(m.spec for m in self.members)
        self.spec = GameSpec(
            f"mpe/{name}",
            groups,
            kind,
            symmetric=len(groups) == 1,
            horizon=suite.max_steps + 1,
            truncates=True,
        )
        self.noisy = bool(np.any(suite.u_noise) or np.any(suite.c_noise))

    def _show(self, observation: dict[str, Array], reward: dict[str, Array], truncated: Array) -> TimeStep:
        return TimeStep(
            observation=stack(observation, self.members),
            legal={},
            acting=all_act(self.spec),
            reward=reward,
            terminated=jnp.asarray(False),
            truncated=truncated,
        )

    def reset(self, key: Key[Array, ""]) -> tuple[Any, TimeStep]:
        """Begin an episode."""
        observation, state = self.suite.reset(key)
        return state, self._show(observation, no_reward(self.spec), jnp.asarray(False))

    def step(self, key: Key[Array, ""], state: Any, actions: dict[str, Array]) -> tuple[Any, TimeStep]:
        """Play one step."""
        if not self.noisy:  # the suite scales noise by zero: one fixed key spares a draw for every environment
            key = jax.random.key(0)
        moves = unstack(actions, self.members)
        observation, state, reward, done, _ = self.suite.step_env(key, state, moves)
        return state, self._show(observation, stack_rewards(reward, self.members), jnp.asarray(done["__all__"], bool))

    def render(self, states: list[Any], path: str) -> None:
        """Draw the states of one episode as a GIF."""
        from jaxmarl.environments.mpe import MPEVisualizer

        MPEVisualizer(self.suite, states).animate(path, view=False)


def make(
    name: str,
    *,
    num_agents: int | None = None,
    num_good_agents: int | None = None,
    num_adversaries: int | None = None,
    num_landmarks: int | None = None,
    max_steps: int | None = None,
    local_ratio: float | None = None,
    action_type: Literal["discrete", "continuous"] = "discrete",
) -> MPE:
    """A scenario; options left out keep the suite's values."""
    given = {
        "num_agents": num_agents,
        "num_good_agents": num_good_agents,
        "num_adversaries": num_adversaries,
        "num_landmarks": num_landmarks,
        "max_steps": max_steps,
        "local_ratio": local_ratio,
    }
    options: dict[str, Any] = {k: v for k, v in given.items() if v is not None}
    if action_type == "continuous":
        options["action_type"] = "Continuous"
    return MPE(name, **options)
