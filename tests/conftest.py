"""Every test checks the shapes in signatures, sees two host devices, and keeps compiled programs for its session."""

import os
import tempfile

import jax
from jaxtyping import install_import_hook

if os.environ.get("LUDUS_CHECK_SHAPES", "1") != "0":
    install_import_hook(
        [f"ludus.{part}" for part in ("core", "learning", "networks", "equilibria")],
        "beartype.beartype",
    )  # before anything imports ludus

# Most of a test's time is compilation, and small programs run as fast without all that it could do.
if os.environ.get("LUDUS_TEST_OPTIMISED", "0") == "0":
    os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true")
_CACHE = tempfile.TemporaryDirectory(prefix="ludus-compiled-")
if "JAX_PLATFORMS" not in os.environ:
    jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_compilation_cache_dir", _CACHE.name)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
