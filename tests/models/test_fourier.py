"""The Fourier layer against the literal Eq. 4.5, in value and derivatives."""

import functools
import math
import subprocess
import sys

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import pytest
from compilation import jit_as_users_do

from dfm.models.fourier import COEFFICIENT_NAMES, fourier_layer, fourier_net, layer_sizes
from dfm.models.literal_fourier import literal_layer, literal_net

TOLERANCE = 1e-5  # relative to the largest entry
BASES = ("cos_sin", "cas")
CORNERS = [(1, 1), (1, 9), (9, 1), (9, 9), (8, 8), (8, 3), (2, 8)]
RANDOM = [tuple(map(int, shape)) for shape in np.random.default_rng(0).integers(1, 10, (6, 2))]
LAYERS = [(m, n, "cos_sin") for m, n in CORNERS + RANDOM] + [(m, n, "cas") for m, n in [(1, 1), (4, 4), (6, 3), (2, 6)]]

layer_jit = jax.jit(fourier_layer, static_argnums=2)
net_jit = jax.jit(fourier_net)


def random_coefficients(rng, m, n, basis, batch=()):
    shape = (*batch, 2**m, n)
    return {name: rng.normal(0, 2 ** (-m / 2), shape).astype(np.float32) for name in COEFFICIENT_NAMES[basis]}


def random_layer(m, n, basis, points=33, reach=3.0):
    """(x, coefficients, cotangent) in float32 NumPy, |x| up to `reach`."""
    rng = np.random.default_rng([m, n, len(basis)])
    x = rng.uniform(-reach, reach, (points, m)).astype(np.float32)
    return x, random_coefficients(rng, m, n, basis), rng.normal(size=(points, n)).astype(np.float32)


def on_device(tree):
    return jax.tree.map(jnp.asarray, tree)


def in_float64(function, *arguments):
    """The literal form's float32 phases are off by 1e-5 themselves, so the oracle is evaluated in float64."""
    with jax.enable_x64(True):
        arguments = jax.tree.map(lambda array: jnp.asarray(array, jnp.float64), arguments)
        return jax.tree.map(np.asarray, jax.jit(function)(*arguments))


def assert_close(found, expected, tolerance=TOLERANCE):
    for leaf, reference in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert leaf.shape == reference.shape
        error = np.abs(np.asarray(leaf, np.float64) - reference).max()
        assert error <= tolerance * np.abs(reference).max()


def weighted_sum(layer, x, coefficients, cotangent):
    y = layer(x, coefficients)
    # + y^2: linear in y alone, the coefficients would have no second derivatives
    return (cotangent * (y + 0.5 * y * y)).sum(), y


@pytest.mark.parametrize("m, n, basis", LAYERS)
def test_value_and_gradients_equal_the_literal_form(m, n, basis):
    arguments = random_layer(m, n, basis)

    def value_and_gradients(layer):
        return jax.value_and_grad(functools.partial(weighted_sum, layer), argnums=(0, 1), has_aux=True)

    (_, y), gradients = jit_as_users_do(value_and_gradients(fourier_layer))(*on_device(arguments))
    (_, reference), reference_gradients = in_float64(value_and_gradients(literal_layer), *arguments)
    assert y.dtype == jnp.float32
    assert_close(y, reference)
    assert_close(gradients, reference_gradients)


def gradient(layer, cotangent):
    return jax.grad(lambda arguments: weighted_sum(layer, *arguments, cotangent)[0])


def forward_over_reverse(layer, arguments, direction, cotangent):
    return jax.jvp(gradient(layer, cotangent), (arguments,), (direction,))[1]


def reverse_over_reverse(layer, arguments, direction, cotangent):
    return jax.vjp(gradient(layer, cotangent), arguments)[1](direction)[0]


@pytest.mark.parametrize("m, n, basis", [(1, 2, "cas"), (3, 3, "cos_sin"), (5, 5, "cas"), (7, 2, "cos_sin")])
def test_hessian_vector_products_equal_the_literal_form(m, n, basis):
    x, coefficients, cotangent = random_layer(m, n, basis, points=9)
    direction_x, direction_coefficients, _ = random_layer(m, n, basis, points=9, reach=1.0)
    arguments = ((x, coefficients), (direction_x, direction_coefficients), cotangent)
    reference = in_float64(functools.partial(forward_over_reverse, literal_layer), *arguments)
    for product in (forward_over_reverse, reverse_over_reverse):
        assert_close(jax.jit(functools.partial(product, fourier_layer))(*on_device(arguments)), reference)


def test_full_hessian_in_every_mode():
    x, coefficients, cotangent = random_layer(3, 2, "cos_sin", points=2)

    def loss(layer, x):
        return weighted_sum(layer, x, on_device(coefficients), cotangent)[0]

    reference = in_float64(jax.hessian(functools.partial(loss, literal_layer)), x)
    for outer in (jax.jacfwd, jax.jacrev):
        for inner in (jax.jacfwd, jax.jacrev):
            assert_close(jax.jit(outer(inner(functools.partial(loss, fourier_layer))))(x), reference)


def test_jacobian_by_forward_mode():
    x, coefficients, _ = random_layer(5, 4, "cas", points=6)
    found = jax.jit(jax.jacfwd(fourier_layer, argnums=(0, 1)))(*on_device((x, coefficients)))
    assert_close(found, in_float64(jax.jacrev(literal_layer, argnums=(0, 1)), x, coefficients))


@pytest.mark.parametrize("m, n, basis", [(2, 6, "cas"), (5, 5, "cos_sin"), (7, 3, "cos_sin")])
def test_one_coefficient_set_an_example(m, n, basis):
    rng = np.random.default_rng(5)
    x = rng.uniform(-1, 1, (3, 17, m)).astype(np.float32)
    cotangent = rng.normal(size=(3, 17, n)).astype(np.float32)
    arguments = (x, random_coefficients(rng, m, n, basis, batch=(3,)), cotangent)
    gradients = jax.jit(jax.value_and_grad(functools.partial(weighted_sum, fourier_layer), (0, 1), has_aux=True))
    (_, found), found_gradients = gradients(*on_device(arguments))
    for example in range(3):
        one = on_device(jax.tree.map(lambda array, i=example: array[i], arguments))
        (_, y), one_gradients = gradients(*one)
        assert_close(found[example], y, 1e-6)
        assert_close(jax.tree.map(lambda array, i=example: array[i], found_gradients), one_gradients, 1e-6)
        assert_close(y, in_float64(literal_layer, *jax.tree.map(np.asarray, one[:2])))


def test_two_batch_axes_and_coefficients_shared_by_all_examples():
    rng = np.random.default_rng(6)
    x = jnp.asarray(rng.uniform(-1, 1, (2, 3, 5, 4)), jnp.float32)
    shared = on_device(random_coefficients(rng, 4, 4, "cos_sin"))
    own = on_device(random_coefficients(rng, 4, 4, "cos_sin", batch=(2, 3)))
    assert_close(layer_jit(x, shared), layer_jit(x.reshape(-1, 4), shared).reshape(x.shape), 1e-6)
    assert_close(layer_jit(x, own), jax.jit(jax.vmap(jax.vmap(fourier_layer)))(x, own), 1e-6)


def test_vmap_over_coefficients_alone_equals_repeated_points():
    """What a decoder does: one pixel grid, one generated coefficient set a picture."""
    rng = np.random.default_rng(7)
    x = jnp.asarray(rng.uniform(0, 1, (11, 2)), jnp.float32)
    layers = [on_device(random_coefficients(rng, m, n, "cas", batch=(4,))) for m, n in layer_sizes((3, 3), 1)]
    layers = jax.tree.map(lambda array: 0.2 * array, layers)  # large ones amplify rounding from layer to layer
    found = jax.jit(jax.vmap(fourier_net, in_axes=(0, None)))(layers, x)
    assert_close(found, net_jit(layers, jnp.broadcast_to(x, (4, 11, 2))))
    assert_close(found[2], in_float64(literal_net, *jax.tree.map(np.asarray, ([one_of(a, 2) for a in layers], x))))


def one_of(layer, index):
    return {name: array[index] for name, array in layer.items()}


def test_no_points_give_no_outputs():
    coefficients = on_device(random_coefficients(np.random.default_rng(0), 3, 2, "cas"))
    assert layer_jit(jnp.zeros((0, 3)), coefficients).shape == (0, 2)


def test_residual_only_where_widths_agree_unless_told_otherwise():
    zeros = {"cas": jnp.zeros((8, 3))}
    x = jnp.asarray(np.random.default_rng(1).normal(size=(4, 3)), jnp.float32)
    np.testing.assert_array_equal(layer_jit(x, zeros), x)
    np.testing.assert_array_equal(layer_jit(x, zeros, False), 0)
    np.testing.assert_array_equal(layer_jit(x, {"cas": jnp.zeros((8, 2))}), 0)


def test_sine_at_frequency_zero_has_no_effect():
    x, coefficients, _ = on_device(random_layer(4, 4, "cos_sin"))
    other = {**coefficients, "sin": coefficients["sin"].at[0].add(1.0)}
    assert_close(layer_jit(x, other), layer_jit(x, coefficients), 1e-6)


def test_the_layer_is_periodic_far_from_zero():
    """Whole turns are taken off exactly, before anything is rounded: multiples of 1/64 stay exact at 1,000 turns."""
    rng = np.random.default_rng(2)
    x = jnp.asarray(rng.integers(-64, 64, (50, 5)) / 64, jnp.float32)
    turns = jnp.asarray(rng.integers(-1000, 1000, (50, 5)), jnp.float32)
    coefficients = on_device(random_coefficients(rng, 5, 3, "cos_sin"))
    np.testing.assert_allclose(layer_jit(x + turns, coefficients), layer_jit(x, coefficients), atol=2e-6)


@pytest.mark.parametrize(
    "x_dtype, coefficient_dtype",
    [("bfloat16", "bfloat16"), ("bfloat16", "float32"), ("float16", "float16"), ("float32", "bfloat16")],
)
def test_narrow_floats_are_promoted_to_float32(x_dtype, coefficient_dtype):
    x, coefficients, _ = on_device(random_layer(4, 4, "cos_sin"))
    x = x.astype(x_dtype)
    coefficients = {name: array.astype(coefficient_dtype) for name, array in coefficients.items()}
    found = layer_jit(x, coefficients)
    wide = {name: array.astype(jnp.float32) for name, array in coefficients.items()}
    assert found.dtype == jnp.float32
    assert_close(found, layer_jit(x.astype(jnp.float32), wide), 1e-6)


@pytest.mark.parametrize(
    "message, m, shapes, residual",
    [
        ("rows of coefficients", 3, {"cas": (4, 2)}, None),
        ("rows of coefficients", 2, {"cos": (8, 2), "sin": (8, 2)}, None),
        ("coefficients are", 2, {"cos": (4, 2)}, None),
        ("coefficients are", 2, {"cas": (4, 2), "sin": (4, 2)}, None),
        ("coefficients are", 2, {}, None),
        ("no residual", 2, {"cas": (4, 3)}, True),
    ],
)
def test_wrong_coefficients_are_refused_in_words(message, m, shapes, residual):
    coefficients = {name: jnp.zeros(shape) for name, shape in shapes.items()}
    with pytest.raises(ValueError, match=message):
        fourier_layer(jnp.zeros((5, m)), coefficients, residual)


@pytest.mark.parametrize("sin_shape", [(2, 4), (4, 3), (8, 2), (4, 1), (3, 4, 2)])
def test_cosine_and_sine_coefficients_of_unequal_shape_are_refused(sin_shape):
    """[2, 4] holds as many numbers as [4, 2] and must not be reshaped into it in silence."""
    with pytest.raises(ValueError):
        fourier_layer(jnp.zeros((5, 2)), {"cos": jnp.zeros((4, 2)), "sin": jnp.zeros(sin_shape)})


# --- how it is computed ---


def phase_elements(jaxpr) -> int:
    """Elements that enter a sine, a cosine or the range reduction of `cos_sin_pi` (its rounding), sub-jaxprs too."""
    total = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name in ("sin", "cos", "round"):
            total += math.prod(equation.invars[0].aval.shape)
        total += sum(phase_elements(inner) for inner in jax.extend.core.jaxprs_in_params(equation.params))
    return total


@pytest.mark.parametrize("passes", ["forward", "gradients"])
def test_phases_grow_with_m_and_not_with_two_to_the_m(passes):
    m, points = 8, 64
    arguments = on_device(random_layer(m, m, "cos_sin", points))

    def phases(layer):
        function = functools.partial(weighted_sum, layer)
        if passes == "gradients":
            function = jax.grad(function, argnums=(0, 1), has_aux=True)
        return phase_elements(jax.make_jaxpr(function)(*arguments).jaxpr)

    assert phases(literal_layer) >= 2 * 2**m * points  # the count sees what it must see
    assert points <= phases(fourier_layer) <= 4 * (m + 1) * points


FLOAT64_PROGRAM = """
import jax, jax.numpy as jnp, numpy as np
from dfm.models.literal_fourier import literal_layer
from test_fourier import random_layer
from test_fourier_kernels import exact_cos_sin_pi
from dfm.models.fourier import fourier_layer
from dfm.models.fourier_kernels import cos_sin_pi
x = np.concatenate([np.random.default_rng(0).uniform(-50, 50, 10_000), np.arange(-40, 41) / 2])
for found, expected in zip(cos_sin_pi(jnp.asarray(x)), exact_cos_sin_pi(x)):
    assert found.dtype == jnp.float64
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)
for m, n, basis in [(5, 5, "cos_sin"), (6, 2, "cas")]:
    x, coefficients, cotangent = jax.tree.map(lambda array: jnp.asarray(array, jnp.float64), random_layer(m, n, basis))
    def everything(layer):
        y, pull = jax.vjp(layer, x, coefficients)
        return y, pull(cotangent)
    both = jax.jit(lambda: (everything(fourier_layer), everything(literal_layer)))()
    for found, expected in zip(*map(jax.tree.leaves, both)):
        assert found.dtype == jnp.float64
        assert abs(found - expected).max() <= 1e-12 * abs(expected).max()
    narrow = jax.tree.map(lambda array: array.astype(jnp.float32), (x, coefficients))
    assert jax.eval_shape(fourier_layer, *narrow).dtype == jnp.float32
    assert jax.eval_shape(fourier_layer, narrow[0], coefficients).dtype == jnp.float64
print("float64 agrees")
"""


def test_float64_parity_in_a_process_of_its_own(pytestconfig):
    tests = pytestconfig.rootpath / "tests"
    program = f"import sys; sys.path[:0] = {[str(tests), str(tests / 'models')]!r}\n"
    program += "import jax; jax.config.update('jax_enable_x64', True)\n" + FLOAT64_PROGRAM
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=300, cwd=pytestconfig.rootpath
    )
    assert done.returncode == 0 and "float64 agrees" in done.stdout, done.stderr[-3000:]
