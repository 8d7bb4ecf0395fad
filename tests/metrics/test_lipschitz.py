import jax
import jax.numpy as jnp
import numpy as np

from dfm.metrics.lipschitz import local_lipschitz


def test_of_a_linear_map_it_is_the_largest_singular_value():
    rng = np.random.default_rng(0)
    left, right = (np.linalg.qr(rng.normal(size=(12, 12)))[0] for _ in range(2))
    values = np.array([5.0, 2.0, *np.linspace(1.5, 0.1, 10)])
    matrix = jnp.asarray(left @ np.diag(values) @ right, jnp.float32)
    linear = lambda z: jnp.einsum("ij,bhwj->bhwi", matrix, z.reshape(-1, 1, 1, 12))  # noqa: E731
    points = jnp.asarray(rng.normal(size=(3, 2, 2, 3)), jnp.float32)
    np.testing.assert_allclose(local_lipschitz(linear, points, jax.random.key(0)), 5.0, rtol=1e-4)
    early = local_lipschitz(linear, points, jax.random.key(0), iterations=2)
    assert (early < 5.0001).all()


def test_it_is_local_and_each_example_has_its_own():
    points = jnp.asarray([[0.0, 0.0], [3.0, 1.0]])
    found = local_lipschitz(lambda z: z**2, points, jax.random.key(0), iterations=40)
    np.testing.assert_allclose(found, [0.0, 6.0], rtol=1e-4)
