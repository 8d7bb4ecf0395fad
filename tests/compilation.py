"""How tests compile: quickly (conftest.py), but for those of the arithmetic itself, which ask for `jit_as_users_do`."""

import functools
import importlib.metadata
import os

import jax

AS_USERS_DO: dict[str, int | bool] = {"xla_backend_optimization_level": 3}
if importlib.metadata.version("jaxlib").startswith("0.10."):  # later ones do not know it
    AS_USERS_DO["xla_cpu_use_fusion_emitters"] = True

jit_as_users_do = functools.partial(jax.jit, compiler_options=AS_USERS_DO)


def users_environment() -> dict[str, str]:
    """Of a process that compiles as a user's."""
    return {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
