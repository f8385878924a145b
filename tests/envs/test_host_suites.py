"""Adapters of games that are stepped on the host, against the same games stepped by hand."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest
from gymnasium import spaces
from pettingzoo import ParallelEnv

from ludus.core.errors import UsageError
from ludus.core.host import problem_with
from ludus.core.spaces import Box, Discrete
from ludus.envs.host_spaces import deed, sight
from ludus.envs.pettingzoo import Together
from ludus.envs.pettingzoo_turns import Turns
from ludus.envs.registry import make
from ludus.experiment.check_env import check


def choose(env, step, random):
    """Legal actions at random, one array for each group."""
    found = {}
    for g in env.spec.groups:
        if isinstance(g.action, Discrete):
            legal = step.legal.get(g.name, np.ones((g.slots, g.action.n), bool))
            found[g.name] = np.array([random.choice(np.flatnonzero(row)) for row in legal], np.int32)
        else:
            low, high = (np.broadcast_to(np.asarray(b, float), g.action.shape) for b in (g.action.low, g.action.high))
            found[g.name] = random.uniform(low, high, (g.slots, *g.action.shape)).astype(np.float32)
    return found


@pytest.mark.parametrize("name", ["CartPole-v1", "Pendulum-v1", "LunarLander-v3"])
def test_gymnasium_is_stepped_as_by_hand(name):
    """Oracle: the suite's own game with the same seed and actions; a time limit is no termination."""
    import gymnasium

    ours, theirs = make(f"gymnasium/{name}"), gymnasium.make(name)
    random = np.random.default_rng(0)
    step = ours.reset(7)
    seen, _ = theirs.reset(seed=7)
    ended = False
    for _ in range(300):
        np.testing.assert_array_equal(step.observation["agent"][0], seen)
        action = choose(ours, step, random)
        step = ours.step(action)
        one = action["agent"][0]
        seen, reward, terminated, truncated, _ = theirs.step(int(one) if one.ndim == 0 else one)
        assert step.reward["agent"][0] == np.float32(reward)
        assert (step.terminated, step.truncated) == (terminated, truncated)
        if step.done:
            ended = True
            assert step.acting["agent"][0] == (not terminated)
            step, (seen, _) = ours.reset(8), theirs.reset(seed=8)
    assert ended


def test_spread_is_the_same_game_on_the_host_and_on_the_device():
    """Oracle: JaxMARL's spread from the same positions with the same actions; agents collide."""
    import jax
    import jax.numpy as jnp
    import jaxmarl
    from mpe2 import simple_spread_v3

    theirs = simple_spread_v3.parallel_env()
    theirs.reset(seed=0)
    ours = make("mpe2/simple_spread_v3")
    ours.reset(0)
    device = jaxmarl.make("MPE_simple_spread_v3")
    _, state = device.reset(jax.random.key(0))
    random = np.random.default_rng(1)
    places = random.uniform(-0.3, 0.3, (6, 2))
    world = ours.game.game.world
    for entity, place in zip(world.agents + world.landmarks, places, strict=True):
        entity.state.p_pos = place.copy()
    state = state.replace(p_pos=jnp.asarray(places, jnp.float32), p_vel=jnp.zeros_like(state.p_vel))
    touched = False
    for _ in range(25):
        actions = random.integers(5, size=3)
        step = ours.step({"agent": actions.astype(np.int32)})
        seen, state, reward, _, _ = device.step_env(
            jax.random.key(0), state, {f"agent_{i}": jnp.asarray(a) for i, a in enumerate(actions)}
        )
        for i in range(3):
            np.testing.assert_allclose(step.observation["agent"][i], seen[f"agent_{i}"], atol=1e-4)
            np.testing.assert_allclose(step.reward["agent"][i], reward[f"agent_{i}"], atol=1e-4)
        touched |= len({float(r) for r in step.reward["agent"]}) > 1
    assert touched and step.truncated


PARALLEL = {
    "mpe2/simple_spread_v3": {},
    "mpe2/simple_tag_v3": {},
    "mpe2/simple_speaker_listener_v4": {},
    "pettingzoo/butterfly/knights_archers_zombies_v11": {},
    "magent2/battle_v4": {"arguments": "map_size=14,max_cycles=400"},
    "sisl/pursuit_v5": {"arguments": "max_cycles=40"},
}


@pytest.mark.parametrize("name", PARALLEL)
def test_parallel_games_are_stepped_as_by_hand(name):
    """Oracle: the suite's own game with the same seed and actions. Agents die in some of them, and stay dead."""
    env, twin = make(name, **PARALLEL[name]), make(name, **PARALLEL[name])
    place, raw, random = env._place, twin.game, np.random.default_rng(0)
    step = env.reset(3)
    seen, _ = raw.reset(seed=3)
    dead: set[str] = set()
    for _ in range(700):
        for agent in raw.possible_agents:
            group, row = place[agent]
            alive = agent in raw.agents
            assert step.acting[group][row] == alive and not (alive and agent in dead)
            if agent in seen:
                shown = np.asarray(seen[agent], np.float32)
                np.testing.assert_array_equal(step.observation[group][row].reshape(shown.shape), shown)
        if env.spec.state is not None:
            np.testing.assert_array_equal(step.state, np.asarray(raw.state(), np.float32))
        actions = choose(env, step, random)
        write = {a: env._look(a)[1].write(actions[place[a][0]][place[a][1]]) for a in raw.agents}
        before = set(raw.agents)
        step = env.step(actions)
        seen, rewards, terminated, truncated, _ = raw.step(write)
        assert problem_with(env.spec, step) is None
        for agent, reward in rewards.items():
            group, row = place[agent]
            assert step.reward[group][row] == np.float32(reward)
        over = not raw.agents
        cut = {a for a in before if truncated.get(a) and not terminated.get(a)}
        assert step.done == over and step.truncated == (over and bool(cut))
        dead |= {a for a in before if terminated.get(a)}
        if over:
            for agent in cut:
                group, row = place[agent]
                assert step.acting[group][row]
            break


class Dying(ParallelEnv):
    """Three agents; agent k dies after 2 + 3 k steps, and a time limit ends what is left after seven."""

    metadata: ClassVar[dict] = {"name": "dying"}
    possible_agents: ClassVar[list] = ["a_0", "a_1", "a_2"]
    render_mode = None

    def observation_space(self, agent):
        return spaces.Box(0, 100, (2,), np.float32)

    def action_space(self, agent):
        return spaces.Discrete(2)

    def reset(self, seed=None, options=None):
        self.agents, self.time = list(self.possible_agents), 0
        return self._show(self.agents), {a: {} for a in self.agents}

    def _show(self, agents):
        return {a: np.array([int(a[-1]), self.time], np.float32) for a in agents}

    def step(self, actions):
        assert set(actions) == set(self.agents)
        self.time += 1
        before = self.agents
        terminated = {a: self.time >= 2 + 3 * int(a[-1]) for a in before}
        truncated = {a: self.time >= 7 and not terminated[a] for a in before}
        self.agents = [a for a in before if not (terminated[a] or truncated[a])]
        rewards = {a: 10.0 * int(a[-1]) + self.time for a in before}
        return self._show(before), rewards, terminated, truncated, {a: {} for a in before}


def test_the_dead_act_no_more_and_their_last_reward_is_kept():
    """Known: who lives when, by the rule of the game; the time limit cuts off the one that is left."""
    env = Together(Dying(), "dying")
    step = env.reset(0)
    for time in range(1, 8):
        step = env.step({"a": np.zeros(3, np.int32)})
        alive = [time < 2 + 3 * k for k in range(3)]
        acted = [time - 1 < 2 + 3 * k for k in range(3)]
        assert step.reward["a"].tolist() == [10.0 * k + time if acted[k] else 0.0 for k in range(3)]
        assert step.acting["a"].tolist() == alive
    assert step.truncated and not step.terminated and step.acting["a"].tolist() == [False, False, True]


@pytest.mark.parametrize("name", ["pettingzoo/classic/connect_four_v3", "pettingzoo/classic/leduc_holdem_v4"])
def test_turns_are_played_as_by_hand(name):
    """Oracle: PettingZoo's own loop, `last` and `step`, which gives every agent what it earned between its moves."""
    env, twin = make(name), make(name)
    raw, random = twin.game, np.random.default_rng(0)
    for seed in range(6):
        step = env.reset(seed)
        raw.reset(seed=seed)
        earned = dict.fromkeys(raw.possible_agents, 0.0)
        ours = dict.fromkeys(raw.possible_agents, 0.0)
        while raw.agents:
            seen, reward, terminated, truncated, _ = raw.last()
            agent = raw.agent_selection
            earned[agent] += reward
            if terminated or truncated:
                raw.step(None)
                continue
            group, row = env._place[agent]
            assert step.acting[group][row] and step.acting[group].sum() == 1 and step.seat[group][0] == row
            np.testing.assert_array_equal(step.observation[group][0], np.asarray(seen["observation"], np.float32))
            np.testing.assert_array_equal(step.legal[group][0], seen["action_mask"].astype(bool))
            actions = choose(env, step, random)
            raw.step(int(actions[group][0]))
            step = env.step(actions)
            for name_, (g, i) in env._place.items():
                ours[name_] += float(step.reward[g][i])
        assert step.terminated and ours == pytest.approx(earned)


def test_agents_that_appear_take_free_rows_and_keep_them():
    """Oracle: PettingZoo's example of generated agents, whose agents, and their spaces, are made up as it goes."""
    from pettingzoo.test.example_envs import generated_agents_parallel_v0 as example

    make_one = lambda: example.parallel_env(max_cycles=40)
    env = Together(make_one(), "generated", places=100, width=50, choices=10)
    raw, random = make_one(), np.random.default_rng(0)
    raw.reset(seed=0)
    step = env.reset(5)
    seen, _ = raw.reset(seed=5)
    appeared = 0
    for _ in range(60):
        for agent, x in seen.items():
            _, row = env._place[agent]
            flat = np.asarray(x, np.float32).reshape(-1)
            np.testing.assert_array_equal(step.observation["agents"][row, : flat.size], flat)
            assert not step.observation["agents"][row, flat.size :].any()
            assert step.legal["agents"][row].sum() == raw.action_space(agent).n
            assert step.acting["agents"][row] == (agent in raw.agents)
        assert step.acting["agents"].sum() == len(raw.agents)
        actions = choose(env, step, random)
        write = {a: int(actions["agents"][env._place[a][1]]) for a in raw.agents}
        before = len(env._place)
        step = env.step(actions)
        seen, rewards, *_ = raw.step(write)
        appeared += len(env._place) - before
        for agent, reward in rewards.items():
            assert step.reward["agents"][env._place[agent][1]] == reward
    assert appeared > 0 and not step.done


def test_a_game_that_does_not_name_its_agents_asks_for_numbers():
    from pettingzoo.test.example_envs import generated_agents_parallel_v0 as example

    with pytest.raises(UsageError, match=r"possible_agents.*places.*width.*choices"):
        Together(example.parallel_env(), "generated")


def test_openspiels_games_are_stepped_as_by_hand():
    """Oracle: OpenSpiel's own state with the same moves; there is no chance in this game."""
    import pyspiel

    env, random = make("spiel-host/breakthrough(rows=5,columns=4)"), np.random.default_rng(0)
    step, state = env.reset(0), pyspiel.load_game("breakthrough(rows=5,columns=4)").new_initial_state()
    while not state.is_terminal():
        player = state.current_player()
        assert step.seat["players"][0] == player and step.acting["players"].tolist() == [player == 0, player == 1]
        np.testing.assert_array_equal(step.observation["players"][0], np.float32(state.observation_tensor(player)))
        assert np.flatnonzero(step.legal["players"][0]).tolist() == state.legal_actions()
        action = choose(env, step, random)
        state.apply_action(int(action["players"][0]))
        step = env.step(action)
    assert step.terminated
    np.testing.assert_array_equal(step.reward["players"], state.returns())


def test_spaces_become_arrays_and_numbers():
    """Known: one-hot and flat where a space is no box; combinations of several discrete actions, in order."""
    assert sight(spaces.Discrete(3)).read(1).tolist() == [0, 1, 0]
    picture = sight(spaces.Box(0, 255, (2, 2, 3), np.uint8))
    assert picture.space.high == 1.0 and picture.read(np.full((2, 2, 3), 255, np.uint8)).max() == 1.0
    pair = deed(spaces.MultiDiscrete([2, 3]))
    assert pair.space == Discrete(6) and pair.write(np.array(4)).tolist() == [1, 1]
    assert deed(spaces.Discrete(3, start=-1)).write(np.array(0)) == -1
    box = deed(spaces.Box(-1, 1, (2, 2)))
    assert box.space == Box((4,), -1.0, 1.0) and box.write(np.full(4, 5.0)).max() == 1.0
    with pytest.raises(UsageError, match="more than 4096 combinations"):
        deed(spaces.MultiBinary(20))
    with pytest.raises(UsageError, match="neither discrete nor real"):
        deed(spaces.Text(3))


@pytest.mark.parametrize(
    "name", ["mpe2/simple_spread-v3", "pettingzoo/classic/tictactoe-v3", "gymnasium/CartPole-v1", "matrix/climbing"]
)
def test_good_games_pass_their_suites_own_tests_and_ours(name):
    found = check(name, 120)
    assert found["fine"], found["wrong"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("raise", "step fails at step .* of episode .*the diary is torn"),
        ("nan", "a reward of group 'writer' is not finite"),
    ],
)
def test_bad_games_are_told_what_is_wrong_and_where(monkeypatch, options, words):
    import re

    import host_games

    broken = host_games.Diary(7, options, 0.2, "", 0)
    monkeypatch.setattr("ludus.experiment.check_env.make", lambda name: broken)
    found = check("host_games:diary", 200)
    assert not found["fine"] and re.search(words, found["wrong"][0])


def test_options_are_checked():
    with pytest.raises(UsageError, match="did you mean 'mpe2/simple_spread_v3'"):
        make("mpe2/simple_sprad_v3")
    with pytest.raises(UsageError, match=r"no option 'team'.*did you mean 'teams'"):
        make("mpe2/simple_spread_v3", team="one")
    with pytest.raises(UsageError, match="name=value"):
        make("mpe2/simple_spread_v3", arguments="N:3")
    with pytest.raises(UsageError, match="no environment of Ludus"):
        make("host_games:nothing")


def test_team_rewards_and_teams_can_be_chosen():
    env = make("mpe2/simple_spread_v3", reward="team")
    assert env.spec.reward == "common" and make("mpe2/simple_spread_v3").spec.reward == "general-sum"
    step = env.reset(0)
    step = env.step(choose(env, step, np.random.default_rng(0)))
    assert len(set(step.reward["agent"].tolist())) == 1
    each = make("mpe2/simple_spread_v3", teams="each")
    assert each.spec.groups[0].rivals and len(each.spec.teams) == 3
    assert isinstance(make("pettingzoo/classic/rps_v2"), Turns)
    assert isinstance(make("pettingzoo/classic/rps_v2", turns="together"), Together)
