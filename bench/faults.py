"""What a run survives, how long it takes to go on, and what it loses.

    python bench/faults.py kill ROLE [--times 20]   # environment, actor, inference, learner, evaluator, league, driver
    python bench/faults.py stop [--seconds 60]      # an actor is stopped (SIGSTOP) and continued
    python bench/faults.py environments             # 1 % of an environment's steps raise, or crash their process
    python bench/faults.py long [--minutes 30]      # something dies or stops every 20 seconds, against a clean run

Every kill is a SIGKILL at a random moment; a recovery is counted from the kill to the first update (or result) that the
successor took part in. Unrolls that reach a learner are read: each tells who played it and every step of its episodes,
so that what is lost, doubled or mixed from two lives is seen. One JSON object a line.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
for folder in (HERE, HERE.parent / "tests"):  # processes of a cluster find the games too
    sys.path.insert(0, str(folder))
    os.environ["PYTHONPATH"] = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])

import jax  # noqa: E402
import numpy as np  # noqa: E402

import ludus  # noqa: E402
from ludus.algorithms.policy_gradient.impala import IMPALA  # noqa: E402
from ludus.algorithms.policy_gradient.ppo import PPO  # noqa: E402
from ludus.envs.registry import make  # noqa: E402
from ludus.networks.torso import Network  # noqa: E402
from ludus.runtime.programs import Placement, evaluator_for, program_for  # noqa: E402
from ludus.runtime.setup import configure  # noqa: E402

SMALL = Network(hidden=(32,))
DIARY = "host_games:diary"  # its observations are (life, step in it)


class Reader:
    """Reads every unroll that reaches a learner."""

    def __init__(self) -> None:
        self.unrolls = self.doubled = self.mixed = 0
        self._seen: set[bytes] = set()
        self._last: dict[tuple[int, int, int], tuple[np.ndarray, np.ndarray]] = {}  # of each environment of a life

    def read(self, sample: Any) -> None:
        """Check one."""
        who, group = (sample.sampler, sample.life), sample.rollout.groups["writer"]
        observation = np.asarray(group.observation)[:, :, 0]  # [time, env, (life, step)]
        over = np.asarray(sample.rollout.terminated | sample.rollout.truncated)
        played = np.asarray(group.acting)[:, :, 0]  # not what was missed while a process was replaced
        for name in (repr((*who, sample.number)).encode(), observation[played].tobytes()):
            digest = hashlib.sha1(name).digest()
            self.doubled += digest in self._seen
            self._seen.add(digest)
        for env in range(observation.shape[1]):
            mine, ended = observation[played[:, env], env], over[played[:, env], env]
            if (*who, env) in self._last:
                mine = np.concatenate([self._last[*who, env][0][None], mine])
                ended = np.concatenate([self._last[*who, env][1][None], ended])
            if not len(mine):
                continue
            life, step = mine[:, 0], mine[:, 1]
            on = (life[1:] == life[:-1]) & (step[1:] == step[:-1] + 1)
            anew = (life[1:] != life[:-1]) & (step[1:] == 0)
            self.mixed += int((~np.where(ended[:-1], anew, on)).sum())
            self._last[*who, env] = (mine[-1], ended[-1])
        self.unrolls += 1

    def facts(self) -> dict[str, int]:
        """What was found."""
        return {"unrolls": self.unrolls, "doubled": self.doubled, "mixed": self.mixed}


def watched(p: Any, reader: Reader, updated: Callable[[], None] = lambda: None) -> Any:
    """A program on a cluster whose unrolls are read before an update is made, and that says when it was."""
    from ludus.runtime.ray.program import RayProgram

    class Watched(RayProgram):
        def compile(self, state: Any, against: Any = None) -> Any:
            call = super().compile(state, against)
            crew: Any = self.crew
            learn = crew.learn

            def read_and_learn(samples: list[Any], *update: Any) -> Any:
                for sample in crew.ray.get(samples):
                    reader.read(sample)
                found = learn(samples, *update)
                updated()
                return found

            crew.learn = read_and_learn
            return call

    return Watched(p.algorithm, p.env, p.num_envs, p.steps, p.where, p.on_nan, p.learns, p.seed, p.say)


def kill(pid: int) -> float:
    """Kill at once; the time of it."""
    os.kill(pid, signal.SIGKILL)
    return time.monotonic()


def row(role: str, times: int, seconds: list[float], **more: Any) -> None:
    """One line of results."""
    found = {
        "role": role,
        "kills": times,
        "recovered": len(seconds),
        "median_seconds": round(statistics.median(seconds), 2) if seconds else None,
        "longest_seconds": round(max(seconds), 2) if seconds else None,
        "within_ten_seconds": sum(s <= 10 for s in seconds),
    }
    print(json.dumps({**found, **more}), flush=True)


def clustered(role: str, times: int, pause: float) -> None:
    """An actor, an inference server or a learner of a cluster."""
    kind = {"actor": "actor", "inference": "inference server", "learner": "learner"}[role]
    reader, dice = Reader(), random.Random(0)
    where = Placement(runtime="ray", actors=2, inference_servers=int(role == "inference"))
    algorithm = IMPALA(rollout_length=16, network=SMALL)
    program = program_for(algorithm, make(DIARY), 8, 10**8, placement=where)
    before, ends = 0, []

    def updated() -> None:
        if program.restarts[kind] > before and not ends:
            ends.append(time.monotonic())

    program = watched(program, reader, updated)
    state = program.init(0)
    call = program.compile(state)
    state, _ = call(state)
    seconds: list[float] = []
    lost = []
    for _ in range(times):
        state = program.fetch(state)  # as a checkpoint does
        saved, go = int(state.iteration[0]), time.monotonic() + pause * dice.random()
        while time.monotonic() < go or int(state.iteration[0]) == saved:
            state, _ = call(state)
        pids = program.crew.pids[kind]
        timer = threading.Timer(dice.random() * 0.3, lambda: moment.append(kill(dice.choice(pids))))
        moment: list[float] = []
        before, ends = program.restarts[kind], []
        updates = int(state.iteration[0])
        timer.start()
        while not ends:
            state, _ = call(state)
        seconds.append(ends[0] - moment[0])
        print(f"{role} {seconds[-1]:.1f} s", file=sys.stderr, flush=True)
        lost.append(updates - saved if role == "learner" else 0)
    row(role, times, seconds, **reader.facts(), updates_lost_at_most=max(lost), restarts=dict(program.restarts))
    program.close()


def environment(times: int) -> None:
    """A process of environments."""
    dice = random.Random(0)
    program = program_for(
        PPO(rollout_length=64, network=SMALL), make("mpe2/simple_spread_v3"), 16, 10**8, placement=Placement(workers=2)
    )
    state = program.init(0)
    call = program.compile(state)
    state, _ = call(state)
    seconds = []
    for _ in range(times):
        before = len(program.pool.faults.recovery)
        # Those that make games and those that step them.
        pids = [*program.pool.pids, *(pid for _, pid in program.pool.serving)]
        timer = threading.Timer(dice.random(), lambda pids=pids: moment.append(kill(dice.choice(pids))))
        moment: list[float] = []
        timer.start()
        while len(program.pool.faults.recovery) == before:
            state, _ = call(state)
        seconds.append(time.monotonic() - moment[0])
    row("environment", times, seconds, faults=dict(program.pool.faults.counts))
    program.close()


def evaluator(times: int) -> None:
    """An evaluator, in the midst of its work."""
    dice = random.Random(0)
    env = make("gym/CartPole-v1")
    where = Placement(runtime="ray", evaluators=2)
    algorithm = PPO(network=SMALL)
    policies = algorithm.policy(algorithm.init(env.spec, 1, key=jax.random.key(0)))
    evaluators = evaluator_for(env, placement=where)
    evaluators(policies, 2000, jax.random.key(0), explore=True)
    begin = time.monotonic()
    expected = evaluators(policies, 2000, jax.random.key(1), explore=True)
    clean = time.monotonic() - begin
    seconds, same = [], 0
    for _ in range(times):
        time.sleep(10 * dice.random() + 3)
        timer = threading.Timer(dice.random() * clean, lambda: moment.append(kill(dice.choice(named("EvaluatorRole")))))
        moment: list[float] = []
        timer.start()
        found = evaluators(policies, 2000, jax.random.key(1), explore=True)
        timer.join()
        end = time.monotonic()
        if end - moment[0] < 0.01:  # it died when its work was done; the next shows whether that matters
            found = evaluators(policies, 2000, jax.random.key(1), explore=True)
            end = time.monotonic()
        seconds.append(end - moment[0])
        same += all((found.returns[n] == x).all() for n, x in expected.returns.items())
    row("evaluator", times, seconds, seconds_without_a_kill=round(clean, 2), results_equal_those_without=same)


def named(role: str) -> list[int]:
    """Processes of a role, by the names that they give themselves."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if f"ray::{role}".encode() in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def begun(pid: int) -> int:
    """When a process began, in ticks since the machine did."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])


def league(times: int) -> None:
    """A league's own process, in the midst of generations; every generation must be written in the end.

    Recovered is who has trained: the first update that the successor's cluster made, as it tells the cluster's status.
    """
    from ludus.experiment.league import resolve_league, run_league

    dice = random.Random(0)
    settings = {"generations": times, "steps": 2000, "num_envs": 8, "games": 200, "runtime": "ray", "actors": 1}
    config = resolve_league("psro", "matrix/rock_paper_scissors", oracle="ppo", changes={"settings": settings})
    recovered: list[float] = []
    whole: list[float] = []
    moment: list[float] = []
    ends: list[float] = []
    kills: list[int] = []

    def watch(generation: Any) -> None:
        now = time.monotonic()
        ends.append(now)
        if moment:
            whole.append(now - moment.pop())

    stop = threading.Event()

    def killer() -> None:
        while len(kills) < times and not stop.is_set():
            stop.wait(0.5 + dice.random() * 4)
            pids = named("Keeper")
            if not pids or not ends or moment:
                continue
            kills.append(min(pids, key=begun))  # the other waits to take its place
            moment.append(kill(kills[-1]))
            begin = moment[0]
            time.sleep(0.2)  # what it said last has arrived by then
            before = set(told_of())
            while not (new := set(told_of()) - before) and not stop.is_set():
                time.sleep(0.05)
            if not new:
                return
            recovered.append(time.monotonic() - begin)
            print(f"league {recovered[-1]:.1f} s", file=sys.stderr, flush=True)

    thread = threading.Thread(target=killer, daemon=True)
    with tempfile.TemporaryDirectory() as directory:
        thread.start()
        run_league(config, Path(directory) / "run", watch=watch)
        stop.set()
        thread.join()
        told = ludus.open_league(Path(directory) / "run").to_dict()
    row(
        "league",
        len(kills),
        recovered,
        seconds_to_the_end_of_the_interrupted_generation=[round(x, 1) for x in whole],
        generations=told["generation"],
        members=len(told["members"]),
    )


def told_of() -> dict[str, Any]:
    """What the runs of a cluster said of themselves last, by run."""
    import ray

    from ludus.runtime.ray.cluster import NAMESPACE, STATUS

    try:
        found: dict[str, Any] = ray.get(ray.get_actor(STATUS, namespace=NAMESPACE).show.remote(), timeout=5)
    except (ValueError, ray.exceptions.RayError):  # nobody said anything yet, or who kept it died
        return {}
    return found


def driver(times: int) -> None:
    """The process that a user starts; then `ludus resume`. Recovery: from that command to the first new metrics."""
    dice = random.Random(0)
    python = [sys.executable, "-m", "ludus"]
    seconds, lost, orphans = [], [], 0
    with tempfile.TemporaryDirectory() as directory:
        run = Path(directory) / "run"
        flags = ["--steps", "100000000", "--runtime", "ray", "--actors", "2", "--run-dir", str(run), "--quiet"]
        process = subprocess.Popen([*python, "train", "impala", "gym/CartPole-v1", *flags])
        metrics = run / "metrics.jsonl"
        written(metrics, [])
        for _ in range(times):
            time.sleep(2 + 4 * dice.random())
            process.send_signal(signal.SIGKILL)
            process.wait()
            time.sleep(1.0)
            before, begin = rows_of(metrics), time.monotonic()
            process = subprocess.Popen([*python, "resume", str(run), "--quiet"])
            now = written(metrics, before)
            seconds.append(time.monotonic() - begin)
            lost.append(max(0, steps_of(before) - steps_of(now)))
        process.send_signal(signal.SIGTERM)
        code = process.wait(60)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and (left := named("Actor") + named("LearnerRole")):
            time.sleep(0.5)
        orphans = len(left)
    row("driver", times, seconds, steps_lost_at_most=max(lost), processes_left_behind=orphans, code_when_stopped=code)


def rows_of(path: Path) -> list[str]:
    """The whole lines of metrics that there are."""
    return [line for line in path.read_text().splitlines() if line.endswith("}")] if path.exists() else []


def steps_of(rows: list[str]) -> int:
    """Of the last row."""
    return int(json.loads(rows[-1])["steps"]) if rows else 0


def written(path: Path, before: list[str]) -> list[str]:
    """Wait for another row than those before, of which `resume` first takes back what lies behind its checkpoint."""
    deadline, kept = time.monotonic() + 120, len(before)
    while time.monotonic() < deadline:
        rows = rows_of(path)
        if len(rows) > kept:
            return rows
        kept = len(rows)
        time.sleep(0.02)
    raise SystemExit("nothing was written within 120 s")


def stopped(seconds: float) -> None:
    """An actor is stopped and continued; how long learning stood still."""
    for timeout in (60.0, 5.0):
        reader = Reader()
        where = Placement(runtime="ray", actors=2, env_timeout=timeout)
        program = program_for(IMPALA(rollout_length=16, network=SMALL), make(DIARY), 8, 10**8, placement=where)
        program = watched(program, reader)
        state = program.init(0)
        call = program.compile(state)
        state, _ = call(state)
        pid = program.crew.pids["actor"][0]
        os.kill(pid, signal.SIGSTOP)
        threading.Timer(seconds, try_continue, (pid,)).start()
        begin = last = time.monotonic()
        longest = 0.0
        while time.monotonic() - begin < seconds + 5:
            state, _ = call(state)
            longest, last = max(longest, time.monotonic() - last), time.monotonic()
        print(
            json.dumps(
                {
                    "fault": f"an actor stopped for {seconds:.0f} s",
                    "env_timeout": timeout,
                    "longest_pause_seconds": round(longest, 1),
                    "restarts": dict(program.restarts),
                    **reader.facts(),
                }
            ),
            flush=True,
        )
        program.close()


def try_continue(pid: int) -> None:
    """Continue a process, if it is there still."""
    try:
        os.kill(pid, signal.SIGCONT)
    except ProcessLookupError:
        return


KINDS = ("raise", "nan", "crash", "hang")


def environments(
    game: str, num_envs: int, workers: int, watchdog: float, share: float, pairs: int, seconds: float, kinds: list[str]
) -> None:
    """Throughput of training while environments fail, against the same without: windows of both in turn.

    Steps are those that were played. Both programs train for a while first, so that what they compile is not counted.
    """
    algorithm = PPO(rollout_length=64, network=Network(hidden=(64, 64)))
    for kind in kinds:
        trained = [Trained(algorithm, game, num_envs, workers, watchdog, "", share)]
        trained.append(Trained(algorithm, game, num_envs, workers, watchdog, kind, share))
        rates = [[one.rate(seconds) for one in trained] for _ in range(pairs)]
        faults = trained[1].program.pool.faults
        print(
            json.dumps(
                {
                    "fault": kind,
                    "game": game,
                    "environments": num_envs,
                    "processes": workers,
                    "watchdog_seconds": watchdog if kind == "hang" else None,
                    "share_of_steps": share,
                    "steps_per_second": round(statistics.median(b for _, b in rates)),
                    "without": round(statistics.median(a for a, _ in rates)),
                    "ratio": round(statistics.median(b / a for a, b in rates), 2),
                    "ratios": [round(b / a, 2) for a, b in rates],
                    "faults": faults.told,
                    "median_recovery_seconds": round(statistics.median(faults.recovery or [0.0]), 4),
                }
            ),
            flush=True,
        )
        for one in trained:
            one.program.close()


class Trained:
    """A program that trains in windows of time."""

    def __init__(
        self, algorithm: Any, game: str, num_envs: int, workers: int, watchdog: float, kind: str, share: float
    ):
        env = make(f"faulty_games:{game}", misbehave=kind, rate=share)
        where = Placement(workers=workers, env_timeout=watchdog if kind == "hang" else 60.0)
        self.program: Any = program_for(algorithm, env, num_envs, 10**8, on_nan="skip", placement=where)
        self._state = self.program.init(0)
        self._call = self.program.compile(self._state)
        self.rate(12.0)

    def rate(self, seconds: float) -> float:
        """Steps played a second, over so many seconds."""
        missed, count, begin = self.program.pool.faults.missed, 0, time.perf_counter()
        while (spent := time.perf_counter() - begin) < seconds:
            self._state, _ = self._call(self._state)
            count += self.program.steps_per_call
        return (count - self.program.pool.faults.missed + missed) / spent


def memory() -> dict[str, float]:
    """Resident MiB by role, of the largest process of each."""
    found: dict[str, float] = {"driver": resident(os.getpid())}
    for role in ("Actor", "LearnerRole", "Server"):
        found[role] = max((resident(p) for p in named(role)), default=0.0)
    return found


def resident(pid: int) -> float:
    """MiB."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    except OSError:
        return 0.0


def long(minutes: float, every: float) -> None:
    """A random fault again and again; the policies of the end against those of a clean run of as many steps."""
    dice = random.Random(0)
    env = make("gym/CartPole-v1")
    algorithm = replace(IMPALA(rollout_length=32, network=Network(hidden=(64, 64))), learning_rate=1e-3)
    updates = 0
    for name, limit in (("faults", minutes * 60), ("clean", minutes * 60)):
        where = Placement(runtime="ray", actors=2, env_timeout=5.0)
        program = program_for(algorithm, env, 16, 2 * 10**8, placement=where)
        state = program.init(0)
        call = program.compile(state)
        state, _ = call(state)
        begin = last = fetched = time.monotonic()
        used: list[dict[str, float]] = []
        done: dict[str, int] = {}
        while time.monotonic() - begin < limit and not (name == "clean" and int(state.iteration[0]) >= updates):
            state, _ = call(state)
            now = time.monotonic()
            if now - fetched > 10:  # as checkpoints do
                state, fetched = program.fetch(state), now
                used.append(memory())
            if name == "faults" and now - last > every:
                last = now
                what = dice.choice(["kill actor", "kill actor", "kill learner", "stop actor"])
                done[what] = done.get(what, 0) + 1
                pid = dice.choice(program.crew.pids[what.split()[1]])
                if what.startswith("kill"):
                    kill(pid)
                else:
                    os.kill(pid, signal.SIGSTOP)
                    threading.Timer(8.0, try_continue, (pid,)).start()
        updates = max(updates, int(state.iteration[0]))
        results = evaluator_for(env)(program.policies(state), 100, jax.random.key(1), explore=False)
        recovery = [seconds for _, seconds in program.crew.recovery]
        half = len(used) // 2
        peak = lambda part: {k: round(max(u[k] for u in part)) for k in part[0]} if part else {}
        print(
            json.dumps(
                {
                    "run": name,
                    "minutes": round((time.monotonic() - begin) / 60, 1),
                    "updates": int(state.iteration[0]),
                    "faults": done,
                    "restarts": dict(program.restarts),
                    "longest_recovery_seconds": round(max(recovery, default=0.0), 1),
                    "greedy_return": float(next(iter(results.returns.values())).mean()),
                    "resident_mib_first_half": peak(used[:half]),
                    "resident_mib_second_half": peak(used[half:]),
                }
            ),
            flush=True,
        )
        program.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    actions = parser.add_subparsers(dest="what", required=True)
    one = actions.add_parser("kill")
    one.add_argument("role", choices=["environment", "actor", "inference", "learner", "evaluator", "league", "driver"])
    one.add_argument("--times", type=int, default=20)
    one.add_argument("--pause", type=float, default=10.0, help="at most so many seconds of training between two kills")
    one = actions.add_parser("stop")
    one.add_argument("--seconds", type=float, default=60.0)
    one = actions.add_parser("environments")
    one.add_argument("--game", choices=["spread", "pursuit"], default="spread")
    one.add_argument("--envs", type=int, default=16)
    one.add_argument("--workers", type=int, default=2, help="processes of environments")
    one.add_argument("--watchdog", type=float, default=1.0, help="seconds without a word after which a process hangs")
    one.add_argument("--only", nargs="*", choices=KINDS, default=list(KINDS))
    one.add_argument("--share", type=float, default=0.01)
    one.add_argument("--pairs", type=int, default=9)
    one.add_argument("--seconds", type=float, default=4.0)
    one = actions.add_parser("long")
    one.add_argument("--minutes", type=float, default=30.0)
    one.add_argument("--every", type=float, default=20.0)
    given = parser.parse_args()
    configure()
    if given.what == "stop":
        stopped(given.seconds)
    elif given.what == "environments":
        environments(
            given.game, given.envs, given.workers, given.watchdog, given.share, given.pairs, given.seconds, given.only
        )
    elif given.what == "long":
        long(given.minutes, given.every)
    elif given.role in ("actor", "inference", "learner"):
        clustered(given.role, given.times, given.pause)
    else:
        {"environment": environment, "evaluator": evaluator, "league": league, "driver": driver}[given.role](
            given.times
        )
