"""A Ray cluster: started on this machine for one run, listening on its loopback alone and asking for a token, or one
that runs already."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import platformdirs

from ludus.core.errors import UsageError

NAMESPACE = "ludus"
STATUS = "status"


def ray() -> Any:
    """The package, set up to be safe before its first use. Raises `UsageError` where it is not installed."""
    if "ray" in sys.modules:
        package = sys.modules["ray"]
        if not package.is_initialized() and os.environ.get("RAY_AUTH_MODE") is None:  # type: ignore[attr-defined]
            raise UsageError(
                "Ray was imported before Ludus could make it safe: import it after Ludus connected, or call ray.init "
                "first"
            )
        return package
    # Without this Ray listens on all addresses of the machine, not on its loopback.
    if not os.environ.get("RAY_ADDRESS"):
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    if os.environ["RAY_AUTH_MODE"] == "token" and not os.environ.get("RAY_AUTH_TOKEN"):
        os.environ.setdefault("RAY_AUTH_TOKEN_PATH", str(_token()))
    os.environ.setdefault("RAY_prestart_worker_first_driver", "0")  # else as many idle processes as it counts cores
    os.environ.setdefault("RAY_IGNORE_UNHANDLED_ERRORS", "1")  # of unrolls given up with who played them
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray as package
    except ImportError as error:
        raise UsageError("the Ray runtime needs the package 'ray': pip install 'ludus[ray]'") from error
    return package


def _token() -> Path:
    """The file with this user's token, made when there is none; readable by nobody else."""
    path = Path(platformdirs.user_state_dir("ludus")) / "ray-token"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            return path  # another process was faster
        with os.fdopen(handle, "w") as file:
            file.write(secrets.token_hex(32))
    return path


def places(where: Any) -> int:
    """How many processes a cluster for this placement has room for: all of them, and as many that take their places."""
    return int(2 * (where.actors + where.learners + where.inference_servers + where.evaluators) + 8)


def connect(where: Any) -> Any:
    """Ray, connected: to the cluster of a placement, or to one that is started on this machine."""
    return _connect(where.address, places(where))


def _connect(address: str, processes: int) -> Any:
    package = ray()
    if package.is_initialized():
        return package
    given = address or os.environ.get("RAY_ADDRESS", "")
    quiet = {"log_to_driver": False, "logging_level": "error", "configure_logging": False, "namespace": NAMESPACE}
    try:
        with _own_signals(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "os.fork", RuntimeWarning)  # it executes another program at once
            if given:
                package.init(address=given, **quiet)
            else:
                with _few_processes():
                    package.init(
                        num_cpus=max(processes, 1),  # processes share the cores there are; Ray only counts them
                        num_gpus=0,
                        include_dashboard=False,
                        _node_ip_address="127.0.0.1",
                        **quiet,
                    )
    except (ConnectionError, RuntimeError, ValueError) as error:
        where = f"at {given}" if given else "on this machine"
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UsageError(f"cannot use a Ray cluster {where}: {reason}") from error
    printing: Any = sys.modules.get("ray._private.worker")
    if hasattr(printing, "_worker_logs_enabled"):  # deaths, to standard output, where a result belongs; they are told
        printing._worker_logs_enabled = False
    return package


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """Whoever listened to SIGINT and SIGTERM goes on to: Ray ends the process at once, which would save nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _few_processes() -> Iterator[None]:
    """Without a dashboard, an autoscaler and a collector of logs, which serve nobody in a cluster of one run.

    Ray waits for the first of them even where it was told to leave it out, and each takes a second of a core, when
    the run's own processes want to begin. Releases that have them elsewhere start them as ever.
    """
    node: Any = getattr(sys.modules.get("ray._private.node"), "Node", None)
    left_out = ("start_api_server", "start_monitor", "start_log_monitor")
    before = {name: getattr(node, name) for name in left_out if hasattr(node, name)}
    for name in before:
        setattr(node, name, lambda *_, **__: None)
    try:
        yield
    finally:
        for name, method in before.items():
            setattr(node, name, method)


class Status:
    """What `ludus cluster status` shows; a named actor that whoever trains tells."""

    def __init__(self) -> None:
        self._told: dict[str, dict[str, Any]] = {}

    def tell(self, run: str, facts: dict[str, Any]) -> None:
        """Remember what one run says of itself."""
        self._told[run] = {**facts, "time": time.time()}

    def show(self) -> dict[str, dict[str, Any]]:
        """What all runs said last."""
        return self._told


def teller(package: Any) -> Any:
    """Who keeps the cluster's status; ends with who asked for it first."""
    return package.remote(num_cpus=0, name=STATUS, namespace=NAMESPACE, get_if_exists=True)(Status).remote()


def status(address: str) -> dict[str, Any]:
    """What runs on a cluster say of themselves, and what the cluster has."""
    package = ray()
    if not (address or os.environ.get("RAY_ADDRESS")):
        address = "auto"
    _connect(address, 0)
    try:
        told = package.get(package.get_actor(STATUS, namespace=NAMESPACE).show.remote(), timeout=10)
    except ValueError:
        told = {}
    return {"resources": package.cluster_resources(), "nodes": len(package.nodes()), "runs": told}
