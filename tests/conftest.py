"""Every test checks the shapes in signatures, sees two host devices, and keeps compiled programs for its session."""

import atexit
import gc
import os
import shutil
import tempfile

import jax
import pytest
from jaxtyping import install_import_hook

if os.environ.get("LUDUS_CHECK_SHAPES", "1") != "0":
    install_import_hook(
        [f"ludus.{part}" for part in ("core", "learning", "networks", "equilibria")],
        "beartype.beartype",
    )  # before anything imports ludus

# Most of a test's time is compilation, and small programs run as fast without all that it could do. An option that a
# release does not know ends the process, so the last one is for the release that it was tried on; with it, one and the
# same computation may differ in the last bit from program to program, so tests of that are marked `optimised`.
QUICK = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
if jax.__version_info__[:2] == (0, 10):
    QUICK += " --xla_cpu_use_fusion_emitters=false"
if os.environ.get("LUDUS_TEST_OPTIMISED", "0") == "0":
    os.environ.setdefault("XLA_FLAGS", QUICK)
if "LUDUS_TEST_CACHE" not in os.environ:  # workers of a parallel run share that of the process which starts them
    os.environ["LUDUS_TEST_CACHE"] = tempfile.mkdtemp(prefix="ludus-compiled-")
    atexit.register(shutil.rmtree, os.environ["LUDUS_TEST_CACHE"], ignore_errors=True)
if "JAX_PLATFORMS" not in os.environ:
    jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_traceback_in_locations_limit", 0)  # as `configure` has it
jax.config.update("jax_compilation_cache_dir", os.environ["LUDUS_TEST_CACHE"])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


def pytest_collection_modifyitems(items):
    """Files whose tests take long begin first, so that none is left for one worker at the end."""
    long = ("reliability", "test_examples.py", "league", "runtime")
    items.sort(key=lambda item: not any(part in item.path.parts for part in long))


@pytest.fixture(scope="module", autouse=True)
def _programs_of_other_modules_are_forgotten():
    """Compiled programs take gigabytes in the end, and a large heap slows tracing down."""
    yield
    jax.clear_caches()
    gc.collect()
