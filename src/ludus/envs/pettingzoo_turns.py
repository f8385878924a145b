"""PettingZoo's games in which agents move one by one (AEC)."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from ludus.core.host import HostEnvironment, HostStep, blank
from ludus.core.spaces import Discrete
from ludus.core.spec import RewardKind
from ludus.envs.host_agents import Teams, gather, specification, team_rewards
from ludus.envs.host_spaces import Deed, Sight, deed, legal_from, sight


class Turns(HostEnvironment):
    """A step is one agent's move; what it brings to any agent is that step's reward, the last move's included.

    Dead agents are waved through, as PettingZoo asks, without being shown to anybody.
    """

    def __init__(
        self, game: Any, name: str, *, teams: Teams = "by-name", reward: Literal["own", "team"] = "own", **unused: Any
    ):
        self.game, self._team_reward = game, reward == "team"
        self._spaces: dict[str, tuple[Sight, Deed]] = {}
        game.reset(seed=0)
        known = list(game.possible_agents)
        info = game.infos.get(game.agent_selection, {})
        masked = lambda a: self._look(a)[0].mask is not None or "action_mask" in info
        grouping: Any = "by-name" if teams == "auto" else teams
        self._agents = gather(known, self._look, masked, grouping, True)
        self._place = self._agents.place
        kind: RewardKind = "general-sum"
        if grouping == "each":
            kind = "zero-sum"
        elif grouping == "one" and reward == "team":
            kind = "common"
        try:
            state = np.asarray(game.state(), np.float32)
        except Exception:  # games say in many ways that they have none
            state = None
        self.spec = specification(
            name, self._agents, state if state is not None and state.ndim else None, kind, "sequential"
        )
        self._blank = blank(self.spec)
        self._cut = False  # whether a time limit ended the episode

    def _look(self, agent: str) -> tuple[Sight, Deed]:
        if agent not in self._spaces:
            self._spaces[agent] = sight(self.game.observation_space(agent)), deed(self.game.action_space(agent))
        return self._spaces[agent]

    def reset(self, seed: int) -> HostStep:
        """See `HostEnvironment.reset`."""
        self.game.reset(seed=seed)
        self._cut = False
        return self._show(blank(self.spec).reward)

    def step(self, actions: dict[str, np.ndarray]) -> HostStep:
        """See `HostEnvironment.step`."""
        mover = self.game.agent_selection
        group, row = self._place[mover]
        slot = 0 if self.spec.group(group).slots < self.spec.group(group).size else row
        self.game.step(self._look(mover)[1].write(actions[group][slot]))
        reward = {name: np.zeros_like(x) for name, x in self._blank.reward.items()}
        for agent, x in self.game.rewards.items():
            name, i = self._place[agent]
            reward[name][i] = x
        return self._show(team_rewards(self.spec, reward) if self._team_reward else reward)

    def _show(self, reward: dict[str, np.ndarray]) -> HostStep:
        """The moment at which somebody moves, or the last one."""
        game = self.game
        last: tuple[str, Any] | None = None
        while game.agents:
            agent = game.agent_selection
            dead, cut = game.terminations[agent], game.truncations[agent]
            if not (dead or cut):
                break
            if cut and not dead:
                last = last or (agent, game.observe(agent))
                self._cut = True
            game.step(None)
        step = HostStep(
            observation={name: np.zeros_like(x) for name, x in self._blank.observation.items()},
            legal={name: np.ones_like(x) for name, x in self._blank.legal.items()},
            acting={name: np.zeros_like(x) for name, x in self._blank.acting.items()},
            reward=reward,
            seat={name: np.zeros_like(x) for name, x in self._blank.seat.items()},
        )
        if game.agents:
            agent = game.agent_selection
            self._put(step, agent, game.observe(agent), game.infos.get(agent, {}))
        else:
            step.truncated, step.terminated = self._cut, not self._cut
            if last is not None:  # the one cut first stands for what follows
                self._put(step, *last, {})
        if self.spec.state is not None:
            step.state = np.asarray(game.state(), np.float32)
        return step

    def _put(self, step: HostStep, agent: str, seen: Any, info: dict[str, Any]) -> None:
        group, row = self._place[agent]
        own, act = self._look(agent)
        step.observation[group][0] = own.read(seen)
        step.acting[group][row] = True
        if group in step.seat:
            step.seat[group][0] = row
        if group in step.legal:
            assert isinstance(act.space, Discrete)
            mask = seen[own.mask] if own.mask else info.get("action_mask", np.ones(act.space.n))
            step.legal[group][0] = legal_from(mask, act.space.n)

    def render(self) -> np.ndarray | None:
        """See `HostEnvironment.render`."""
        return np.asarray(self.game.render()) if getattr(self.game, "render_mode", None) == "rgb_array" else None

    def close(self) -> None:
        """See `HostEnvironment.close`."""
        self.game.close()
