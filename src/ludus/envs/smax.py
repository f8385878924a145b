"""SMAX, the StarCraft-like skirmishes of JaxMARL (Rutherford et al. 2023).

`smax/<map>` is played by the allies against the suite's scripted enemy; in `smax/<map>-versus` both sides learn.
The suite ends battles and long episodes alike: a side that is all dead is the end, the time limit is a truncation.
It reads its clock before it advances, so an episode may take one step more than `max_steps`. Positions in its state are
in cells of the map; here they are shares of it.
"""

from __future__ import annotations

from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from ludus.core.errors import UsageError, unknown
from ludus.core.game import TimeStep
from ludus.core.spaces import Box
from ludus.core.spec import GameSpec, RewardKind
from ludus.envs.jaxmarl_common import Members, group, no_reward, stack, stack_rewards, unstack
from ludus.envs.parts import import_part

_VERSUS = "-versus"
_suite = import_part("jaxmarl.environments.smax")
_MAPS: dict[str, Any] = import_part("jaxmarl.environments.smax.smax_env").MAP_NAME_TO_SCENARIO
NAMES = (*_MAPS, *(name + _VERSUS for name in _MAPS))


class SMAX:
    """One map. Dead units do not act, but are still paid."""

    def __init__(self, name: str, **options: Any):
        self.versus = name.endswith(_VERSUS)
        scenario = _MAPS[name.removesuffix(_VERSUS)]
        suite = _suite.SMAX if self.versus else _suite.HeuristicEnemySMAX
        self.suite: Any = suite(scenario=scenario, **options)
        allies, enemies = scenario.num_allies, scenario.num_enemies
        friends = [f"ally_{i}" for i in range(allies)]
        self.members: tuple[Members, ...] = (group(self.suite, "allies", "allies", friends, masked=True),)
        kind: RewardKind = "common"
        if self.versus:
            foes = [f"enemy_{i}" for i in range(enemies)]
            self.members += (group(self.suite, "enemies", "enemies", foes, masked=True),)
            kind = "zero-sum" if self.suite.use_self_play_reward else "general-sum"
        self.spec = GameSpec(
            f"smax/{name}",
            tuple(m.spec for m in self.members),
            kind,
            state=Box((self.suite.state_size,)),
            symmetric=not self.versus,
            horizon=self.suite.max_steps + 1,
            truncates=True,
            win_return=self._win_return(),
        )
        self._state_scale = self._scale_of_state()

    def _win_return(self) -> float:
        """What a side's return exceeds only if it won: the damage it dealt adds up to 1, the bonus comes on top."""
        bonus = float(self.suite.won_battle_bonus)
        return bonus / 2 if self.suite.use_self_play_reward else 1.0 + bonus / 2

    def _scale_of_state(self) -> np.ndarray:
        """Positions of up to 32 drown features of size 1 beside them, in critics and mixers."""
        sizes = {"position_x": self.suite.map_width, "position_y": self.suite.map_height}
        unit = [1 / sizes.get(name, 1) for name in self.suite.own_features]
        units = self.suite.num_allies + self.suite.num_enemies
        return np.array(unit * units + [1.0] * 2 * units, np.float32)

    def _show(self, observation: dict[str, Array], state: Any, reward: dict[str, Array], done: Array) -> TimeStep:
        alive = self._battle(state).unit_alive
        sides = alive[: self.suite.num_allies], alive[self.suite.num_allies :]
        decided = ~sides[0].any() | ~sides[1].any()
        legal = stack(self.suite.get_avail_actions(state), self.members)
        return TimeStep(
            observation=stack(observation, self.members),
            legal={name: mask.astype(bool) for name, mask in legal.items()},
            acting={m.spec.name: side for m, side in zip(self.members, sides, strict=False)},
            reward=reward,
            terminated=done & decided,
            truncated=done & ~decided,
            state=observation["world_state"] * self._state_scale,
        )

    def _battle(self, state: Any) -> Any:
        """The units; the scripted enemy keeps its memory beside them."""
        return state if self.versus else state.state

    def reset(self, key: Key[Array, ""]) -> tuple[Any, TimeStep]:
        """Begin an episode."""
        observation, state = self.suite.reset(key)
        state = jax.tree.map(lambda leaf: jnp.asarray(leaf, leaf.dtype), state)  # not weakly typed, as after a step
        return state, self._show(observation, state, no_reward(self.spec), jnp.asarray(False))

    def step(self, key: Key[Array, ""], state: Any, actions: dict[str, Array]) -> tuple[Any, TimeStep]:
        """Play one step; the time that weapons take to cool down is random."""
        moves = unstack(actions, self.members)
        observation, state, reward, done, _ = self.suite.step_env(key, state, moves)
        return state, self._show(observation, state, stack_rewards(reward, self.members), done["__all__"])

    def render(self, states: list[Any], path: str) -> None:
        """Draw the states of one episode as a GIF."""
        from matplotlib.animation import FuncAnimation
        from matplotlib.figure import Figure

        names = [f"ally_{i}" for i in range(self.suite.num_allies)]
        names += [f"enemy_{i}" for i in range(self.suite.num_enemies)]
        battles = [jax.tree.map(np.asarray, self._battle(state)) for state in states]
        figure = Figure((5, 5))
        axes = figure.subplots()

        def draw(frame: int) -> None:
            battle = battles[frame]
            attacks = dict(zip(names, battle.prev_attack_actions, strict=True))
            with jax.disable_jit():  # the suite would compile something for every unit of every frame
                self.suite.init_render(axes, (None, battle, attacks), 0, frame)

        FuncAnimation(figure, draw, frames=len(battles), init_func=lambda: None, interval=200).save(path, "pillow")


def make(
    name: str,
    *,
    max_steps: int = 100,
    see_enemy_actions: bool = True,
    walls_cause_death: bool = True,
    observation_type: Literal["unit_list", "conic"] = "unit_list",
    self_play_reward: bool = False,
    won_battle_bonus: float = 1.0,
    attack_mode: Literal["closest", "random"] = "closest",
    enemy_shoots: bool = True,
) -> SMAX:
    """A map; `self_play_reward` pays for the outcome only, the last two options are the scripted enemy's."""
    if observation_type not in ("unit_list", "conic"):
        raise unknown("observation type", observation_type, ("unit_list", "conic"))
    if attack_mode not in ("closest", "random"):
        raise unknown("attack mode", attack_mode, ("closest", "random"))
    options: dict[str, Any] = {
        "max_steps": max_steps,
        "see_enemy_actions": see_enemy_actions,
        "walls_cause_death": walls_cause_death,
        "observation_type": observation_type,
        "use_self_play_reward": self_play_reward,
        "won_battle_bonus": won_battle_bonus,
    }
    if not name.endswith(_VERSUS):
        return SMAX(name, attack_mode=attack_mode, enemy_shoots=enemy_shoots, **options)
    if attack_mode != "closest" or not enemy_shoots:
        raise UsageError(f"'smax/{name}' has no scripted enemy for attack_mode or enemy_shoots to set")
    return SMAX(name, **options)
