"""The host runtime against the device runtime on the same games, and against games that misbehave."""

from __future__ import annotations

import itertools
import os
import signal
import threading
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from host_games import Alike, Fixed
from ludus.algorithms.policy_gradient.ppo import PPO
from ludus.algorithms.value.vdn import VDN
from ludus.core.errors import NotFiniteError, UsageError
from ludus.envs.registry import make
from ludus.networks.torso import Network
from ludus.runtime.device import Program
from ludus.runtime.host.evaluate import HostEvaluator
from ludus.runtime.host.pool import Pool
from ludus.runtime.host.program import HostProgram
from toys import Always, Drift, Turns, assert_close, assert_same

ENVS = 6
SMALL = Network(hidden=(8,))
GRU = Network(hidden=(8,), memory="gru", memory_size=8)


def host(algorithm, name, steps, *, options=None, workers=2, **more):
    return HostProgram(algorithm, make(name, **(options or {})), ENVS, steps, workers=workers, **more)


@pytest.fixture
def programs():
    """Makes host programs whose processes end with the test."""
    made = []

    def start(*arguments, **more):
        made.append(host(*arguments, **more))
        return made[-1]

    yield start
    for program in made:
        program.close()


GAMES = {
    "simultaneous": ("host_games:fixed_drift", {}, Fixed(Drift(agents=2))),
    "masked teams": ("host_games:fixed_drift", {"masked": True, "teams": True}, Fixed(Drift(masked=True, teams=True))),
    "turns": ("host_games:fixed_turns", {"truncates": True}, Fixed(Turns(truncates=True))),
}


@pytest.mark.parametrize(
    ("game", "network"),
    [("simultaneous", SMALL), ("masked teams", GRU), pytest.param("turns", GRU, marks=pytest.mark.slow)],
    ids=["simultaneous", "masked teams, recurrent", "turns, recurrent"],
)
def test_training_on_the_host_is_training_on_the_device(programs, game, network):
    """Oracle: the device runtime with the same seed, in games where chance is in the state alone."""
    name, options, twin = GAMES[game]
    algorithm = PPO(rollout_length=9, minibatches=3, network=network)
    ours = programs(algorithm, name, 4 * ENVS * 9, options=options)
    theirs = Program(algorithm, twin, ENVS, 4 * ENVS * 9)
    state, expected = ours.init(0), theirs.init(0)
    call, compiled = ours.compile(state), theirs.compile(expected)
    for _ in range(theirs.calls):
        expected, report = compiled(expected)
    for _ in range(ours.calls):
        state, own = call(state)
    assert_close(state.learner, expected.learner, 2e-5)
    assert_same(state.iteration, expected.iteration)
    assert float(own.episodes.count[0]) == float(report.episodes.count[0]) > 0
    assert_close(own.episodes.returns, report.episodes.returns, 1e-4)


@pytest.mark.slow
def test_training_in_a_game_of_particles_is_the_same_on_the_host(programs):
    """Oracle: the device runtime; 12 updates with time limits, normalised values and several minibatches."""
    algorithm = PPO(rollout_length=52, minibatches=2, learning_rate=1e-3, normalise_values=True)
    twin = Alike(make("mpe/simple_spread"))
    ours = programs(algorithm, "host_games:fixed_spread", 12 * ENVS * 52)
    theirs = Program(algorithm, twin, ENVS, 12 * ENVS * 52)
    state, expected = ours.init(0), theirs.init(0)
    call, compiled = ours.compile(state), theirs.compile(expected)
    for _ in range(theirs.calls):
        expected, _ = compiled(expected)
    for _ in range(ours.calls):
        state, _ = call(state)
    assert_close(state.learner, expected.learner, 1e-6)


@pytest.mark.parametrize("workers", [1, 3])
def test_how_environments_are_spread_changes_nothing(programs, workers):
    """Invariance: other processes, other batches, the same learner."""
    algorithm = PPO(rollout_length=8, network=SMALL)
    found = []
    for count in (2, workers):
        program = programs(algorithm, "host_games:diary", 4 * ENVS * 8, workers=count)
        state = program.init(0)
        call = program.compile(state)
        for _ in range(program.calls):
            state, _ = call(state)
        found.append(state.learner)
    assert_close(*found, 1e-5)


def test_a_learner_from_replay_learns_on_the_host(programs):
    """Oracle: the device runtime; the replay holds the same transitions."""
    algorithm = VDN(rollout_length=1, capacity=120, warm_up=12, batch_size=12, network=SMALL)
    name, options, twin = "host_games:fixed_drift", {}, Fixed(Drift(agents=2))
    twin.spec = twin.env.spec = make(name).spec
    ours = programs(algorithm, name, 10 * ENVS, options=options)
    theirs = Program(algorithm, twin, ENVS, 10 * ENVS)
    state, expected = ours.init(0), theirs.init(0)
    call, compiled = ours.compile(state), theirs.compile(expected)
    for _ in range(theirs.calls):
        expected, _ = compiled(expected)
    for _ in range(ours.calls):
        state, _ = call(state)
    assert_close(state.learner, expected.learner, 2e-5)


def diary_of(program, rollouts):
    """(life, step) of every transition that a learner would see, and whether it may learn from it."""
    seen = []
    call = program.collector
    for _ in range(rollouts):
        rollout, _, _ = call.collect(0.0)
        g = rollout.groups["writer"]
        ends = np.asarray(rollout.terminated | rollout.truncated)
        for e in range(ENVS):
            for t in range(ends.shape[0]):
                if not g.acting[t, e, 0]:
                    assert rollout.start[t, e] and not ends[t, e] and not g.reward[t, e, 0]
                    continue  # its process was being replaced while the others played
                life, step = np.asarray(g.observation[t, e, 0]).astype(int)
                paid = float(g.reward[t, e, 0])
                seen.append((e, int(life), int(step), paid, bool(rollout.start[t, e]), bool(ends[t, e])))
    return seen


def check_diary(seen, length=7):
    """No transition is there twice; within a life none is missing; lives change only where episodes do."""
    numbers = [(life, step) for _, life, step, _, _, _ in seen]
    assert len(set(numbers)) == len(numbers)
    broken = 0
    for e in range(ENVS):
        own = [x for x in seen if x[0] == e]
        for before, after in itertools.pairwise(own):
            assert after[4] == before[5]  # an episode begins where one ended, and only there
            if before[5]:
                assert after[2] == 0 and after[1] != before[1]
            else:
                assert (after[1], after[2]) == (before[1], before[2] + 1)
        for _, _, step, paid, _, over in own:
            broken += over and paid == 0.0  # what was lost pays nothing
            assert paid == step + 1 or (over and paid == 0.0)
            assert step + 1 == length or not over or paid == 0.0
    return broken


@pytest.mark.parametrize("misbehave", ["", "raise", "crash", "nan"])
@pytest.mark.parametrize("width", [0, 1], ids=["terminates", "truncates"])
def test_no_transition_is_lost_or_doubled(programs, misbehave, width):
    """Every transition tells its life and step: counted end to end, while environments fail."""
    options = {"misbehave": misbehave, "rate": 0.01 if misbehave == "crash" else 0.03, "width": width}
    program = programs(PPO(rollout_length=12, network=SMALL), "host_games:diary", 10**6, options=options, on_nan="skip")
    program.compile(program.init(0))
    seen = diary_of(program, 12)
    broken = check_diary(seen)
    faults = program.pool.faults.counts
    assert (broken > 0) == bool(misbehave)
    assert sum(faults.values()) > 0 if misbehave else not faults
    if misbehave == "crash":
        assert max(program.pool.faults.recovery) < 10


def test_what_was_lost_is_not_learned_from(programs):
    """Oracle: the weights of the actor–critic's batch, which are False where an episode was broken off."""
    from ludus.algorithms.policy_gradient.estimate import prepare
    from ludus.algorithms.view import view

    algorithm = PPO(rollout_length=12, network=SMALL)
    options = {"misbehave": "raise", "rate": 0.1}
    program = programs(algorithm, "host_games:diary", 10**6, options=options)
    state = program.init(0)
    program.compile(state)
    learner = jax.tree.map(lambda x: x[0], state.learner)
    for _ in range(3):
        rollout, ended, _ = program.collector.collect(0.0)
        spec = program.spec
        own = view(rollout, spec, spec.groups[0], "local")
        g = learner.shared["groups"]["writer"]
        batch, _, _ = prepare(algorithm, g.models, g.normaliser, (), own, rollout)
        cut = np.asarray(rollout.truncated)
        assert cut.sum() == ended.skipped > 0
        assert not np.asarray(batch.weight)[cut].any() and np.asarray(batch.weight)[~cut].mean() > 0.8


def test_a_killed_process_is_replaced_and_counted(programs):
    program = programs(PPO(rollout_length=200, network=SMALL), "host_games:diary", 10**6)
    program.compile(program.init(0))
    threading.Timer(0.2, lambda: os.kill(program.pool.pids[0], signal.SIGKILL)).start()
    seen = diary_of(program, 4)
    assert program.pool.faults.counts == {"crash": 1}
    assert 1 <= check_diary(seen) <= ENVS // 2
    assert program.pool.faults.recovery[0] < 10


def test_processes_of_environments_do_without_jax(programs):
    """It would be two thirds of their memory, which is copied for each that takes a dead one's place."""
    program = programs(PPO(rollout_length=4, network=SMALL), "mpe2/simple_spread_v3", 64)
    program.compile(program.init(0))
    pool = program.pool
    loaded = lambda pid: "jaxlib" in Path(f"/proc/{pid}/maps").read_text()
    assert loaded(os.getpid())
    assert not any(loaded(pid) for pid in [*pool.pids, *(pid for _, pid in pool.serving)])


def test_a_copy_of_the_same_process_goes_on_where_one_dies(programs):
    program = programs(PPO(rollout_length=200, network=SMALL), "host_games:diary", 10**6)
    program.compile(program.init(0))
    pool = program.pool
    before, (birth, pid) = pool.pids, pool.serving[0]
    assert pid not in before
    threading.Timer(0.2, lambda: os.kill(pid, signal.SIGKILL)).start()
    seen = diary_of(program, 4)
    assert pool.faults.counts == {"crash": 1} and "exit code -9" in pool.faults.messages[-1]
    assert pool.pids == before and pool.serving[0][0] == birth + 1 and pool.serving[0][1] != pid
    assert 1 <= check_diary(seen) <= ENVS // 2
    assert pool.faults.recovery[0] < 5


def test_a_process_with_threads_is_made_again_not_copied(programs):
    program = programs(PPO(rollout_length=200, network=SMALL), "host_games:threaded_diary", 10**6)
    program.compile(program.init(0))
    pool, before = program.pool, program.pool.pids
    assert [pid for _, pid in pool.serving] == before
    threading.Timer(0.2, lambda: os.kill(before[0], signal.SIGKILL)).start()
    seen = diary_of(program, 4)
    assert pool.faults.counts == {"crash": 1} and pool.pids[0] != before[0]
    assert 1 <= check_diary(seen) <= ENVS // 2


def test_nothing_is_left_of_a_process_and_its_copies(programs):
    program = programs(PPO(rollout_length=12, network=SMALL), "host_games:diary", 10**6)
    program.compile(program.init(0))
    diary_of(program, 1)
    pids = [*program.pool.pids, *(pid for _, pid in program.pool.serving)]
    os.kill(pids[0], signal.SIGKILL)  # the one that keeps; the copy goes with it
    program.close()

    def runs(pid):
        stat = Path(f"/proc/{pid}/stat")
        return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"

    begin = time.monotonic()
    while (left := [pid for pid in pids if runs(pid)]) and time.monotonic() - begin < 5:
        time.sleep(0.05)
    assert not left


def test_a_process_that_dies_again_while_it_is_made_is_replaced_again(programs, monkeypatch):
    program = programs(PPO(rollout_length=200, network=SMALL), "host_games:diary", 10**6)
    program.compile(program.init(0))
    launch, more = program.pool._launch, [2]

    def launch_and_kill(worker):
        launch(worker)
        if more[0]:
            more[0] -= 1
            os.kill(program.pool.pids[worker], signal.SIGKILL)

    monkeypatch.setattr(program.pool, "_launch", launch_and_kill)
    os.kill(program.pool.pids[0], signal.SIGKILL)
    seen = diary_of(program, 4)
    assert program.pool.faults.counts == {"crash": 3} and len(program.pool.faults.recovery) == 1
    assert check_diary(seen) <= ENVS // 2


def test_the_others_play_on_while_a_process_is_made_again(programs, monkeypatch):
    program = programs(PPO(rollout_length=200, network=SMALL), "host_games:diary", 10**6)
    program.compile(program.init(0))
    pool = program.pool
    steps = {0: 0, 1: 0}
    heard = pool._heard

    def count(worker, said):
        heard(worker, said)
        if 0 in pool._making:
            steps[worker] += 1

    made, begin = pool._made, time.monotonic()

    def make_late(worker):
        if steps[1] > 10 or time.monotonic() - begin > 30:
            made(worker)

    monkeypatch.setattr(pool, "_heard", count)
    monkeypatch.setattr(pool, "_made", make_late)
    os.kill(pool.pids[0], signal.SIGKILL)
    check_diary(diary_of(program, 2))
    assert steps[1] > 10 and steps[0] == 0


def test_what_a_process_missed_is_there_as_steps_in_which_nobody_acts(programs, monkeypatch):
    """Else the others would wait for it at the end of their rollout. Oracle: the steps that the others played."""
    from ludus.algorithms.policy_gradient.estimate import prepare
    from ludus.algorithms.view import view

    algorithm = PPO(rollout_length=60, network=SMALL)
    program = programs(algorithm, "host_games:diary", 10**6)
    state = program.init(0)
    program.compile(state)
    pool, made, heard, steps = program.pool, program.pool._made, program.pool._heard, [0]

    def count(worker, said):
        heard(worker, said)
        steps[0] += worker == 1

    monkeypatch.setattr(pool, "_heard", count)
    monkeypatch.setattr(pool, "_made", lambda worker: made(worker) if steps[0] > 50 else None)
    os.kill(pool.pids[0], signal.SIGKILL)
    rollout, ended, _ = program.collector.collect(0.0)
    acting = np.asarray(rollout.groups["writer"].acting)[..., 0]
    lost = [row for client in pool.clients if client.worker == 0 for row in client.rows]
    others = [row for row in range(ENVS) if row not in lost]
    cut = np.asarray(rollout.truncated)
    assert acting[:, others].all() and not cut[:, others].any()
    assert cut[:, lost].sum() == ended.skipped == len(lost)
    missed = (~acting).sum(0)[lost]
    assert (missed >= 15).all() and missed.sum() + len(lost) == pool.faults.missed == pool.faults.told["missed step"]
    own = view(rollout, program.spec, program.spec.groups[0], "local")
    g = jax.tree.map(lambda x: x[0], state.learner).shared["groups"]["writer"]
    batch, _, _ = prepare(algorithm, g.models, g.normaliser, (), own, rollout)
    learned = np.asarray(batch.weight)[..., 0]
    assert not learned[~acting].any() and not learned[cut].any() and learned[:, others].all()


@pytest.mark.parametrize("game", ["diary", "threaded_diary"])
def test_a_hanging_environment_is_found_by_the_watchdog(programs, tmp_path, game):
    once = tmp_path / "once"
    once.touch()
    options = {"misbehave": "hang", "once": str(once)}
    program = programs(PPO(rollout_length=12, network=SMALL), f"host_games:{game}", 10**6, options=options, timeout=1.0)
    program.compile(program.init(0))
    begin = time.monotonic()
    seen = diary_of(program, 6)
    assert program.pool.faults.counts == {"hang": 1} and check_diary(seen) >= 1
    assert time.monotonic() - begin < 20


def test_a_useless_value_stops_training_unless_told_to_go_on(programs):
    options = {"misbehave": "nan", "rate": 0.2}
    program = programs(PPO(rollout_length=12, network=SMALL), "host_games:diary", 10**6, options=options)
    program.compile(program.init(0))
    with pytest.raises(NotFiniteError, match=r"reward of group 'writer' is not finite.*environment \d.*--on-nan skip"):
        program.collector.collect(0.0)


def test_an_environment_that_always_fails_is_left_out_and_all_of_them_stop_training(programs):
    options = {"misbehave": "raise", "rate": 1.0}
    program = programs(PPO(rollout_length=12, network=SMALL), "host_games:diary", 10**6, options=options)
    program.compile(program.init(0))
    with pytest.raises(UsageError, match=r"every environment of host_games:diary failed 10 times.*the diary is torn"):
        for _ in range(3):
            program.collector.collect(0.0)


def test_a_game_that_kills_its_process_with_every_step_stops_training(programs):
    options = {"misbehave": "crash", "rate": 1.0}
    program = programs(PPO(rollout_length=12, network=SMALL), "host_games:diary", 10**6, options=options)
    program.compile(program.init(0))
    with pytest.raises(UsageError, match=r"process \d of host_games:diary died .*10 times in a row without a step"):
        for _ in range(30):
            program.collector.collect(0.0)


def test_a_game_that_cannot_be_made_says_why():
    spec = make("host_games:diary").spec
    with pytest.raises(UsageError, match="no such game"):
        Pool("host_games:never", {}, spec, 2, 1, seed=0)


def test_evaluation_counts_every_episode_once(programs):
    """Known: the diary pays 1 + 2 + … + 7; each environment plays as many episodes, so that short ones do not weigh
    more."""
    spec = make("host_games:diary").spec
    evaluator = HostEvaluator("host_games:diary", {}, spec, 2)
    results = evaluator({"writer": Always(1)}, 40, jax.random.key(0), explore=True)
    assert results.returns["writer"].shape == (40, 1) and (results.returns["writer"] == 28).all()
    assert (results.length == 7).all() and results.finished.all()


def test_one_seed_at_a_time():
    with pytest.raises(UsageError, match="one seed at a time"):
        HostProgram(PPO(), make("host_games:diary"), ENVS, 100, seeds=2)
