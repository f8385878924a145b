"""How JAX is set up before its first use: host cores as devices, and a compile cache that lasts."""

from __future__ import annotations

import os
from typing import Any

import jax
import platformdirs

from ludus.core.errors import UsageError


def configure(*, host_devices: int | None = None) -> None:
    """Prepare JAX; a no-op for what was fixed by an earlier use.

    `host_devices` makes that many XLA devices of this machine's cores (default: LUDUS_HOST_DEVICES, else one per
    core up to 8, or what XLA_FLAGS says). The compile cache lives in the user's cache directory unless
    JAX_COMPILATION_CACHE_DIR says otherwise; LUDUS_COMPILE_CACHE=0 switches it off. Compiled programs do not tell which
    line of Python each operation is from, which saves a tenth of the time until they run; a profiler shows those lines
    with JAX_TRACEBACK_IN_LOCATIONS_LIMIT=10.
    """
    if host_devices is None:
        given = os.environ.get("LUDUS_HOST_DEVICES", "0")
        if not given.isdigit():
            raise UsageError(f"LUDUS_HOST_DEVICES must be a number of devices, not '{given}'")
        host_devices = int(given) or available()
    if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        try:
            jax.config.update("jax_num_cpu_devices", host_devices)
        except RuntimeError:
            pass  # JAX is already in use: it keeps the devices it has
    if "JAX_TRACEBACK_IN_LOCATIONS_LIMIT" not in os.environ:
        jax.config.update("jax_traceback_in_locations_limit", 0)
    if os.environ.get("LUDUS_COMPILE_CACHE", "1") != "0" and not getattr(jax.config, "jax_compilation_cache_dir", None):
        jax.config.update("jax_compilation_cache_dir", platformdirs.user_cache_dir("ludus") + "/xla")
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def compiler_options(*, once: bool = False) -> dict[str, Any]:
    """How programs are compiled: on host cores each device keeps its matrix products to its own thread.

    Products of the sizes at hand gain nothing from several threads, and waiting for each other costs a recurrent
    update two thirds of its speed; the cores are used by spreading environments or seeds over devices instead. What
    runs `once`, as fresh parameters, is compiled in a fifth of the time and not made fast.
    """
    if jax.default_backend() != "cpu":
        return {}
    quick = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
    return {"xla_cpu_multi_thread_eigen": False, **(quick if once else {})}


def free_memory() -> int | None:
    """Bytes that arrays may still take on the default device; None where that is not known."""
    device = jax.devices()[0]
    stats = device.memory_stats() if device.platform != "cpu" else None
    if stats and "bytes_limit" in stats:
        return int(stats["bytes_limit"] - stats.get("bytes_in_use", 0))
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def available() -> int:
    """How many host devices are made where nothing else is asked for: one for each core, up to 8."""
    return min(_cores(), 8)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
