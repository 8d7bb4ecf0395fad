import jax
import jax.numpy as jnp
import numpy as np
import pytest
import real_files

from dfm.array_files import hash_arrays, read_arrays, write_npz
from dfm.errors import UserError
from dfm.metrics import lpips, networks
from dfm.metrics.weight_files import WeightFiles
from dfm.picture_files import load_picture


@pytest.fixture(scope="module")
def real():
    return lpips.load_lpips(real_files.LPIPS)


@real_files.needs_lpips
def test_published_distances_of_the_example_pictures(real):
    paths = [real_files.LPIPS_PICTURES / f"{name}.png" for name in ("ex_ref", "ex_p0", "ex_p1")]
    reference, first, second = (jnp.asarray(load_picture(path))[None] for path in paths)
    assert real.name == "lpips-alex-v0.1"
    assert float(real(reference, first)[0]) == pytest.approx(0.7219, abs=1e-3)
    assert float(real(reference, second)[0]) == pytest.approx(0.1376, abs=1e-3)
    both = real(jnp.concatenate([reference, reference]), jnp.concatenate([first, second]))
    np.testing.assert_allclose(both, [0.7219, 0.1376], atol=1e-3)
    assert float(real(first, first)[0]) == 0


@real_files.needs_lpips
def test_grey_pictures_and_features(real):
    grey = np.random.default_rng(0).integers(0, 256, (2, 40, 33, 1), dtype=np.uint8)
    a, b = jnp.asarray(grey), jnp.asarray(255 - grey)
    np.testing.assert_allclose(real(a, b), real(a.repeat(3, axis=-1), b.repeat(3, axis=-1)), rtol=1e-5)
    network = networks.load("lpips", WeightFiles(lpips=str(real_files.LPIPS)))
    assert network.apply(network.params, a).shape == (2, network.size) and network.distance == "fd-lpips"


@pytest.mark.parametrize(
    ("size", "used"), [((32, 32), (32, 32)), ((28, 28), (64, 64)), ((8, 16), (64, 128)), ((500, 40), (500, 40))]
)
def test_small_pictures_are_enlarged(size, used):
    assert lpips.input_size(*size) == used


def random_arrays(net, seed=0):
    generator = np.random.default_rng(seed)
    arrays, inputs, taps = {}, 3, 0
    for i, layer in enumerate(lpips.NETS[net]):
        shape = (layer.size, layer.size, inputs, layer.outputs)
        scale = np.sqrt(2 / np.prod(shape[:3]))
        arrays[f"conv{i}.kernel"] = generator.normal(scale=scale, size=shape).astype(np.float32)
        arrays[f"conv{i}.bias"] = generator.normal(scale=0.1, size=layer.outputs).astype(np.float32)
        if layer.tap:
            arrays[f"lin{taps}"] = generator.uniform(size=layer.outputs).astype(np.float32)
            taps += 1
        inputs = layer.outputs
    return arrays


@pytest.mark.peers
@pytest.mark.parametrize("net", ["alex", "vgg"])
def test_agrees_with_pytorch(net, tmp_path):
    import torch
    from torch.nn import functional as F

    arrays = random_arrays(net)
    write_npz(tmp_path / "net.npz", arrays)
    ours = lpips.load_lpips(tmp_path / "net.npz", hash_arrays(arrays))
    pair = np.random.default_rng(1).integers(0, 256, (2, 1, 48, 56, 3), dtype=np.uint8)

    def taps(picture):
        x = torch.from_numpy(picture.transpose(0, 3, 1, 2)).float() / 127.5 - 1
        x = (x - torch.tensor(lpips.SHIFT)[:, None, None]) / torch.tensor(lpips.SCALE)[:, None, None]
        for i, layer in enumerate(lpips.NETS[net]):
            x = F.max_pool2d(x, layer.pool, 2) if layer.pool else x
            kernel, bias = (torch.from_numpy(arrays[f"conv{i}.{part}"]) for part in ("kernel", "bias"))
            padding = {11: 2, 5: 2, 3: 1}[layer.size]
            x = F.relu(F.conv2d(x, kernel.permute(3, 2, 0, 1), bias, layer.stride, padding))
            if layer.tap:
                yield x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10)

    expected = 0.0
    for i, (x, y) in enumerate(zip(taps(pair[0]), taps(pair[1]), strict=True)):
        head = torch.from_numpy(arrays[f"lin{i}"])[:, None, None]
        expected += float(((x - y).square() * head).sum(1).mean())
    assert float(ours(jnp.asarray(pair[0]), jnp.asarray(pair[1]))[0]) == pytest.approx(expected, rel=1e-4)


def test_unpinned_weights_need_their_hash(tmp_path):
    arrays = random_arrays("alex")
    path = tmp_path / "net.npz"
    write_npz(path, arrays)
    with pytest.raises(UserError, match=f"--lpips_sha256={hash_arrays(arrays)}"):
        lpips.load_lpips(path)
    assert lpips.load_lpips(path, hash_arrays(arrays)).name == "lpips-alex-unpublished"
    with pytest.raises(UserError, match="not 0000"):
        lpips.load_lpips(path, "0000")


@pytest.mark.parametrize("change", [{"lin0": -np.ones(64)}, {"lin4": np.ones(3)}, {"conv1.bias": np.full(192, np.nan)}])
def test_damaged_weights_are_explained(change, tmp_path):
    path = tmp_path / "net.npz"
    write_npz(path, random_arrays("alex") | change)
    with pytest.raises(UserError, match="negative weights|holds NaN"):
        lpips.load_lpips(path)


def test_missing_weights_are_named(monkeypatch):
    monkeypatch.delenv(lpips.VARIABLE, raising=False)
    with pytest.raises(UserError, match="--lpips_weights=FILE or set DFM_LPIPS_WEIGHTS"):
        lpips.load_lpips()


@real_files.needs_lpips
def test_hash_of_the_real_file_is_pinned():
    assert hash_arrays(read_arrays(real_files.LPIPS)) in lpips.KNOWN


def test_the_gradient_is_felt_and_finite_where_every_channel_is_silent():
    arrays = random_arrays("alex")
    arrays["conv0.bias"] -= 100.0  # the first layer is dead everywhere, and so is what follows, but for its bias
    for name in ("conv0.bias", "plain"):
        if name == "plain":
            arrays = random_arrays("alex")
        params = {f"conv{i}": {part: arrays[f"conv{i}.{part}"] for part in ("kernel", "bias")} for i in range(5)}
        net = lpips.Lpips("alex", {"params": params}, [arrays[f"lin{i}"] for i in range(5)], "", "")
        x, y = (jnp.asarray(np.random.default_rng(s).uniform(0, 255, (1, 32, 32, 3)), jnp.float32) for s in (0, 1))
        gradient = jax.jit(jax.grad(lambda y: net(x, y).sum()))(y)  # noqa: B023
        assert np.isfinite(gradient).all()
    assert np.abs(gradient).max() > 0
