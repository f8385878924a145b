"""The Ray runtime: what it learns, what it survives, and that it listens to nobody else."""

from __future__ import annotations

import ast
import asyncio
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from ludus.algorithms.policy_gradient.impala import IMPALA
from ludus.algorithms.policy_gradient.ppo import PPO
from ludus.algorithms.value.vdn import VDN
from ludus.core.errors import UsageError
from ludus.envs.registry import make
from ludus.networks.torso import Network
from ludus.runtime.inference import Inference
from ludus.runtime.programs import Placement, program_for
from toys import assert_close

ray = None
heard = []  # signals
pytestmark = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed")
ENVS = 8
SMALL = Network(hidden=(8,))
SOURCE = Path(__file__).resolve().parents[2] / "src" / "ludus"


@pytest.fixture(scope="module", autouse=True)
def cluster():
    """One cluster for all; its processes find the modules of the tests."""
    os.environ["PYTHONPATH"] = os.pathsep.join(
        [str(Path(__file__).resolve().parents[1]), os.environ.get("PYTHONPATH", "")]
    )
    from ludus.runtime.ray.cluster import connect

    global ray
    before = signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    ray = connect(Placement(runtime="ray", actors=4))
    yield ray
    ray.shutdown()
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def program():
    """Makes programs that end with the test."""
    made = []

    def start(algorithm, name, steps, *, placement=None, **more):
        where = Placement(runtime="ray", **(placement or {}))
        made.append(program_for(algorithm, make(name), ENVS, steps, placement=where, **more))
        return made[-1]

    yield start
    for one in made:
        one.close()


def trained(program, calls=None, between=lambda k: None):
    state = program.init(0)
    call = program.compile(state)
    reports = []
    for k in range(calls or program.calls):
        state, report = call(state)
        reports.append(report)
        between(k)
    return program.fetch(state), reports


def test_nothing_else_imports_ray():
    """Rule: Ray is known to runtime/ray alone."""
    for path in SOURCE.rglob("*.py"):
        if path.parent.name == "ray":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not any(n == "ray" or n.startswith("ray.") for n in names), path


def test_everything_listens_on_the_loopback_alone(cluster):
    """Oracle: the kernel's table of listening sockets, for every process of the cluster."""
    done = subprocess.run(["ss", "-ltnpH"], capture_output=True, text=True, check=True).stdout
    mine = [line.split() for line in done.splitlines() if "ray" in line or "gcs_server" in line or "raylet" in line]
    assert mine
    for fields in mine:
        assert fields[3].rpartition(":")[0] in ("127.0.0.1", "[::1]", "[::ffff:127.0.0.1]"), fields


def test_a_cluster_of_one_run_has_no_processes_for_show(cluster):
    """Each takes a second of a core while the run's own begin, and Ray waits for the dashboard."""
    mine = [Path(path).read_bytes() for path in children(os.getpid())]
    assert any(b"gcs_server" in line for line in mine) and any(b"raylet" in line for line in mine)
    for name in (b"dashboard.py", b"monitor.py", b"log_monitor.py"):
        assert not any(name in line for line in mine), name


def children(pid):
    """The files with their commands."""
    found = Path(f"/proc/{pid}/task").glob("*/children")
    return [f"/proc/{child}/cmdline" for path in found for child in path.read_text().split()]


def test_who_listened_to_signals_before_ray_came_still_does(cluster):
    """Else a run that is asked to stop dies at once, without a checkpoint."""
    os.kill(os.getpid(), signal.SIGTERM)
    assert heard == [signal.SIGTERM]


@pytest.mark.slow
def test_two_learners_learn_what_one_does(program):
    """Invariance: gradients averaged over two processes are those of the whole batch in one."""
    algorithm = PPO(rollout_length=8, minibatches=2, network=SMALL)
    one, _ = trained(program(algorithm, "matrix/climbing", 5 * ENVS * 8))
    two, _ = trained(program(algorithm, "matrix/climbing", 5 * ENVS * 8, placement={"learners": 2}))
    assert_close(one.learner, two.learner, 1e-5)


@pytest.mark.slow
def test_methods_that_need_it_see_the_newest_policies_and_others_no_older_than_agreed(program):
    ppo = program(PPO(rollout_length=8, minibatches=1, network=SMALL), "matrix/climbing", 12 * ENVS * 8)
    trained(ppo)
    assert set(ppo.lag) == {0}
    impala = program(IMPALA(rollout_length=8, network=SMALL), "matrix/climbing", 12 * ENVS * 8)
    trained(impala)
    assert max(impala.lag) <= 2 and impala.lag.total() == 24


@pytest.mark.slow
def test_learners_from_replay_learn_on_a_cluster(program):
    found = program(
        VDN(rollout_length=1, capacity=160, warm_up=16, batch_size=8, network=SMALL), "matrix/climbing", 40 * ENVS
    )
    state, reports = trained(found)
    assert np.isfinite(
        float(
            reports[-1].metrics[
                "agents/loss" if "agents/loss" in reports[-1].metrics else next(iter(reports[-1].metrics))
            ][0]
        )
    )
    assert state.learner.per_env is not None


@pytest.mark.slow
@pytest.mark.parametrize("servers", [0, 1])
def test_a_killed_actor_is_replaced_and_nothing_comes_twice(program, servers, capfd):
    """Every unroll says which life of which actor it is of, and the how-manieth; the program refuses any other."""
    algorithm = IMPALA(rollout_length=8, network=SMALL)
    found = program(algorithm, "host_games:diary", 10**6, placement={"inference_servers": servers})

    def kill(k):
        if k in (1, 3):
            os.kill(found.crew.pids["actor"][k % 2], signal.SIGKILL)

    _, reports = trained(found, 6, kill)
    assert found.restarts["actor"] == 2
    assert all(seconds < 60 for _, seconds in found.crew.recovery)
    assert float(reports[-1].episodes.count[0]) > 0
    assert capfd.readouterr().out == ""  # standard output is for results


@pytest.mark.slow
def test_a_killed_learner_goes_on_from_what_was_last_fetched(program):
    algorithm = PPO(rollout_length=8, minibatches=1, network=SMALL)
    found = program(algorithm, "matrix/climbing", 10**6)
    state = found.init(0)
    call = found.compile(state)
    state, _ = call(state)
    kept = found.fetch(state)
    os.kill(found.crew.pids["learner"][0], signal.SIGKILL)
    state, _ = call(state)
    assert found.restarts["learner"] == 1
    after = found.fetch(state)
    different = jax.tree.map(lambda a, b: bool((np.asarray(a) != np.asarray(b)).any()), kept.learner, after.learner)
    assert any(jax.tree.leaves(different))


@pytest.mark.slow
def test_a_learner_that_dies_before_anybody_has_its_policies_is_replaced(program):
    found = program(PPO(rollout_length=8, minibatches=1, network=SMALL), "matrix/climbing", 10**6)
    state = found.init(0)
    call = found.compile(state)
    crew = found.crew
    ray.kill(crew.learners[0])
    crew.published = crew.learners[0].policies.remote()
    state, report = call(state)
    assert found.restarts["learner"] == 1 and found.restarts["actor"] >= 1
    assert crew.version == found.iterations_per_call and np.isfinite(float(report.metrics["agents/policy_loss"][0]))


@pytest.mark.slow
def test_a_killed_inference_server_is_replaced(program):
    algorithm = IMPALA(rollout_length=8, network=SMALL)
    found = program(algorithm, "host_games:diary", 10**6, placement={"inference_servers": 1})

    def kill(k):
        if k == 1:
            os.kill(found.crew.pids["inference server"][0], signal.SIGKILL)

    trained(found, 4, kill)
    assert found.restarts["inference server"] == 1


def test_an_inference_server_decides_as_everybody_does_for_himself():
    """Oracle: `Inference` for the same environments, keys and parameters; several clients share a batch."""
    from ludus.runtime.ray.roles import Server, Shipped

    algorithm = PPO(network=Network(hidden=(8,), memory="gru", memory_size=8))
    env = make("host_games:fixed_drift", masked=True)
    spec = env.spec
    learner = algorithm.init(spec, 6, key=jax.random.key(0))
    policies = algorithm.policy(learner)
    keys = jax.random.split(jax.random.key(1), 6)
    alone = Inference(spec, 6)
    alone.publish(policies, 3)
    alone.begin(keys)
    step = env.reset(0)
    moment = {
        kind: {n: np.repeat(np.asarray(x)[None], 6, 0) for n, x in getattr(step, kind).items()}
        for kind in ("observation", "legal", "acting", "seat")
    }

    async def ask():
        server = Server(Shipped(env, None), 6, 0.05)
        await server.publish(policies, 3)
        data = np.asarray(jax.random.key_data(keys))
        await server.register("0.0", data[:2])
        await server.register("1.0", data[2:])
        found = []
        for t in range(5):
            part = lambda rows: {kind: {n: x[rows] for n, x in tree.items()} for kind, tree in moment.items()}
            asked = [
                server.decide("0.0", np.arange(2), np.full(2, t == 0), part(slice(0, 2))),
                server.decide("1.0", np.arange(4), np.full(4, t == 0), part(slice(2, 6))),
            ]
            found.append(await asyncio.gather(*asked))
        return found, server.batches

    found, batches = asyncio.run(ask())
    for t, (first, second) in enumerate(found):
        expected = alone.decide(np.arange(6), np.full(6, t == 0), moment)
        for name in expected.action:
            np.testing.assert_array_equal(
                np.concatenate([first.action[name], second.action[name]]), expected.action[name]
            )
            got = np.concatenate([first.log_prob[name], second.log_prob[name]])
            np.testing.assert_allclose(got, expected.log_prob[name], atol=1e-5)
        assert first.version == second.version == 3
    assert batches


def test_a_killed_evaluators_work_is_done_by_the_one_that_lives():
    """With the same results; its place goes to the spare, and where that is dead as well to a new one."""
    from ludus.runtime.ray.evaluate import Evaluators

    env = make("matrix/climbing")
    algorithm = PPO(network=SMALL)
    policies = algorithm.policy(algorithm.init(env.spec, 1, key=jax.random.key(0)))
    evaluators = Evaluators(env, Placement(runtime="ray", evaluators=2))
    evaluate = lambda: evaluators(policies, 64, jax.random.key(1), explore=True).returns
    expected = evaluate()
    (first, second), spare = evaluators._handles, evaluators._spare
    ray.kill(first)
    again = evaluate()
    assert evaluators.restarts == 1 and evaluators._handles == [spare, second]
    ray.kill(evaluators._spare)
    ray.kill(spare)
    both = evaluate()
    assert evaluators._handles[1] == second and evaluators._begun.keys() == {*evaluators._handles, evaluators._spare}
    for name, returns in expected.items():
        np.testing.assert_array_equal(again[name], returns)
        np.testing.assert_array_equal(both[name], returns)
    for handle in [*evaluators._handles, evaluators._spare]:
        ray.kill(handle)


def test_numbers_that_do_not_fit_are_refused(program):
    ppo = PPO(rollout_length=8, network=SMALL)
    with pytest.raises(UsageError, match="8 environments cannot be shared out evenly among 3 actors"):
        program(ppo, "matrix/climbing", 100, placement={"actors": 3})
    with pytest.raises(UsageError, match="2 actors cannot be shared out evenly among 3 learners"):
        program(ppo, "matrix/climbing", 100, placement={"learners": 3})
    with pytest.raises(UsageError, match="actors decide for themselves"):
        program(ppo, "matrix/climbing", 100, placement={"inference_servers": 1})
    with pytest.raises(UsageError, match="one seed at a time"):
        program(ppo, "matrix/climbing", 100, seeds=2)


@pytest.mark.slow
def test_a_league_trains_and_plays_on_a_cluster_and_outlives_its_process(tmp_path):
    """A PSRO league whose own process is killed once; the ledger holds every generation once."""
    import ludus
    from ludus.experiment.league import resolve_league, run_league

    settings = {"generations": 2, "steps": 1000, "num_envs": 8, "games": 50, "runtime": "ray", "evaluators": 1}
    config = resolve_league("psro", "matrix/rock_paper_scissors", oracle="ppo", changes={"settings": settings})
    seen = []

    def watch(generation):
        if not seen:
            victim = ray.get_actor(f"league-{tmp_path / 'run'}", namespace="ludus")
            pid = next(
                int(p.name)
                for p in Path("/proc").iterdir()
                if p.name.isdigit() and b"ray::Keeper" in (p / "cmdline").read_bytes()
            )
            os.kill(pid, signal.SIGKILL)
            assert victim is not None
        seen.append(generation.number)

    run = run_league(config, tmp_path / "run", watch=watch)
    assert seen == sorted(set(seen)) and run.league.generation == 2
    assert ludus.open_league(tmp_path / "run").to_dict()["generation"] == 2


@pytest.mark.slow
def test_processes_stay_between_trainings_and_begin_from_what_each_is_given(program):
    """As a league trains generation after generation: the second from the first's end, the third from nothing."""
    ppo = PPO(rollout_length=8, minibatches=1, network=SMALL)
    found = program(ppo, "matrix/climbing", 10**6)
    first, _ = trained(found, 2)
    crew, pids = found.crew, found.crew.pids
    found.rest()
    call = found.compile(first)
    assert_close(found.fetch(first).learner.shared, first.learner.shared, 0.0)
    second, _ = call(first)
    assert found.crew is crew and crew.pids == pids and int(second.iteration[0]) == 3 * found.iterations_per_call
    assert not crew.restarts and all(slot.life == 1 for slot in crew.slots)
    os.kill(pids["learner"][0], signal.SIGKILL)  # while it rests
    fresh = found.init(5)
    found.compile(fresh)(fresh)
    assert crew.restarts["learner"] == 1 and crew.pids["actor"] == pids["actor"]


@pytest.mark.slow
def test_the_status_says_who_does_what(program):
    from ludus.runtime.ray.cluster import status

    found = program(PPO(rollout_length=8, minibatches=1, network=SMALL), "matrix/climbing", 10**6)
    trained(found, 1)
    told = status("")
    assert told["nodes"] == 1
    run = next(r for r in told["runs"].values() if r["environment"] == found.spec.name)
    assert run["roles"] == {"actors": 2, "learners": 1, "servers": 0} and run["updates"] >= 1


@pytest.mark.slow
def test_a_run_whose_process_was_killed_goes_on_with_another_cluster(tmp_path):
    """From the command line, which connects while it imports what it needs: every step is there once in the end."""
    run, ludus = tmp_path / "run", [sys.executable, "-m", "ludus"]
    flags = ["--steps", "400000", "--runtime", "ray", "--actors", "2", "--checkpoint-every", "1", "--run-dir", str(run)]
    process = subprocess.Popen([*ludus, "train", "impala", "gym/CartPole-v1", *flags, "--quiet"])
    metrics = run / "metrics.jsonl"
    while not metrics.exists() or len(metrics.read_text().splitlines()) < 5:
        assert process.poll() is None
        time.sleep(0.1)
    process.kill()
    process.wait()
    done = subprocess.run([*ludus, "resume", str(run), "--json"], capture_output=True, text=True, check=True)
    steps = [json.loads(line)["steps"] for line in metrics.read_text().splitlines()]
    assert np.unique(np.diff([0, *steps])).size == 1 and json.loads(done.stdout)["steps"] == steps[-1] >= 400_000
