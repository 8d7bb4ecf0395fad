import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest
from jaxtyping import Array, Float, TypeCheckError

from dfm.shapes import typechecked


@typechecked
def product(x: Float[Array, "batch inner"], y: Float[Array, "inner features"]) -> Float[Array, "batch features"]:
    return x @ y


def test_accepts_matching_shapes_also_when_traced():
    assert jax.eval_shape(product, jnp.ones((2, 3)), jnp.ones((3, 4))).shape == (2, 4)


@pytest.mark.parametrize("arguments", [((2, 3), (2, 4)), ((3,), (3, 4))])
def test_refuses_other_shapes(arguments):
    with pytest.raises(TypeCheckError):
        product(*map(jnp.ones, arguments))


def test_without_the_variable_the_function_is_returned_as_it_is_and_beartype_not_needed():
    program = (
        "import sys; sys.modules['beartype'] = None\n"
        "from dfm.shapes import typechecked\n"
        "f = lambda x: x\n"
        "assert typechecked(f) is f\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "DFM_CHECK_SHAPES"}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True)
