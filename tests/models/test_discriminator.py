import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dfm.models.discriminator import NLayerDiscriminator
from dfm.objectives.discriminator_loss import DiscriminatorLoss

SMALL = NLayerDiscriminator(features=8, layers=2)


def images(seed, count=6, side=16):
    return jnp.asarray(np.random.default_rng(seed).normal(size=(count, side, side, 3)), jnp.float32)


@pytest.fixture(scope="module")
def small():
    params, statistics = jax.jit(lambda key: DiscriminatorLoss(SMALL).init(key, 3))(jax.random.key(0))
    return params, statistics["batch_stats"]


def test_published_size_and_patches():
    net = NLayerDiscriminator()
    variables = jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((1, 256, 256, 3)))
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == 2_765_633
    logits = jax.eval_shape(lambda v, x: net.apply(v, x, True), variables, jnp.zeros((2, 256, 256, 3)))
    assert logits.shape == (2, 30, 30, 1)


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_smallest_side_has_one_logit(layers):
    net = NLayerDiscriminator(8, layers)
    variables = jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((1, net.smallest_side, net.smallest_side, 3)))
    images = jnp.zeros((1, net.smallest_side, net.smallest_side, 3))
    assert jax.eval_shape(lambda v, x: net.apply(v, x, True), variables, images).shape == (1, 1, 1, 1)


def test_running_statistics_move_only_where_asked_and_towards_those_of_the_batch(small):
    params, stats = small
    x = 3 * images(1) + 1
    _, same = SMALL.apply({"params": params, "batch_stats": stats}, x, True, mutable=["batch_stats"])
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), same["batch_stats"], stats))
    step = jax.jit(lambda stats: SMALL.apply({"params": params, "batch_stats": stats}, x, mutable=["batch_stats"])[1])
    for _ in range(300):  # from variances of 1 to those of a start's small weights
        stats = step(stats)["batch_stats"]
    by_batch, _ = SMALL.apply({"params": params, "batch_stats": stats}, x, mutable=["batch_stats"])
    by_running = SMALL.apply({"params": params, "batch_stats": stats}, x, True)
    np.testing.assert_allclose(by_running, by_batch, rtol=0.02, atol=0.02)


@pytest.mark.peers
def test_logits_gradients_and_statistics_are_those_of_pytorch(small):
    import torch

    params, stats = small
    twin = _torch_twin(torch, params)
    x = images(2)
    torch_x = torch.tensor(np.asarray(x).transpose(0, 3, 1, 2), requires_grad=True)
    expected = twin(torch_x)
    (expected**2).sum().backward()

    def loss(x):
        logits, new = SMALL.apply({"params": params, "batch_stats": stats}, x, mutable=["batch_stats"])
        return (logits**2).sum(), (logits, new["batch_stats"])

    gradient, (logits, new) = jax.jit(jax.grad(loss, has_aux=True))(x)
    np.testing.assert_allclose(logits.transpose(0, 3, 1, 2), expected.detach().numpy(), rtol=1e-3, atol=1e-5)
    expected_gradient = torch_x.grad.numpy().transpose(0, 2, 3, 1)
    assert np.linalg.norm(gradient - expected_gradient) < 1e-4 * np.linalg.norm(expected_gradient)
    norms = [module for module in twin if isinstance(module, torch.nn.BatchNorm2d)]
    for index, norm in enumerate(norms):
        mine = new[f"BatchNorm_{index}"]
        np.testing.assert_allclose(mine["mean"], norm.running_mean.numpy(), rtol=1e-3, atol=1e-6)
        # PyTorch divides by n - 1 here, and by n where it normalises
        np.testing.assert_allclose(mine["var"], norm.running_var.numpy(), rtol=0.05)


def _torch_twin(torch, params):
    modules, widths = [], [3, 8, 16, 32, 1]
    for index, (inputs, outputs) in enumerate(zip(widths[:-1], widths[1:], strict=True)):
        weights = params[f"Conv_{index}"]
        conv = torch.nn.Conv2d(inputs, outputs, 4, 2 if index < 2 else 1, 1, bias="bias" in weights)
        with torch.no_grad():
            conv.weight.copy_(torch.tensor(np.asarray(weights["kernel"]).transpose(3, 2, 0, 1)))
            if "bias" in weights:
                conv.bias.copy_(torch.tensor(np.asarray(weights["bias"])))
        modules.append(conv)
        if 0 < index < 3:
            norm = torch.nn.BatchNorm2d(outputs)
            with torch.no_grad():
                norm.weight.copy_(torch.tensor(np.asarray(params[f"BatchNorm_{index - 1}"]["scale"])))
            modules.append(norm)
        if index < 3:
            modules.append(torch.nn.LeakyReLU(0.2))
    return torch.nn.Sequential(*modules)
