import jax
import numpy as np
import pytest
import real_files

from dfm.array_files import hash_arrays, read_arrays, write_npz
from dfm.errors import UserError
from dfm.metrics import convert_inception, inception_weights
from dfm.metrics.inception_weights import canonical_arrays, fingerprint, load_weights


@pytest.fixture(scope="module")
def arrays():
    """Random weights of the right shapes, by canonical name; constants, so that 94 kernels cost no time."""
    found = {}
    for i, (name, shape) in enumerate(inception_weights.convolution_shapes().items()):
        found[f"{name}.kernel"] = np.full(shape, (i + 1) / 4096, np.float32)
        found[f"{name}.beta"] = np.full(shape[-1], i, np.float32)
        found[f"{name}.mean"] = np.full(shape[-1], -i, np.float32)
        found[f"{name}.var"] = np.full(shape[-1], 1 + i, np.float32)
    return found


@pytest.fixture
def head():
    return np.arange(2048 * 1008, dtype=np.float32).reshape(2048, 1008) / 2048


def as_pytorch(arrays, head=None):
    parts = {"kernel": "conv.weight", "beta": "bn.bias", "mean": "bn.running_mean", "var": "bn.running_var"}
    stored = {}
    for name, array in arrays.items():
        convolution, _, part = name.rpartition(".")
        stored[f"{convolution}.{parts[part]}"] = array.transpose(3, 2, 0, 1) if part == "kernel" else array
        stored[f"{convolution}.bn.weight"] = np.ones(array.shape[-1], np.float32)
        stored[f"{convolution}.bn.num_batches_tracked"] = np.zeros((), np.int64)
    if head is not None:
        stored |= {"fc.weight": head.T, "fc.bias": np.zeros(1008, np.float32)}
    return stored


def as_tensorflow(arrays, head=None):
    """Names of the frozen graph: blocks mixed ... mixed_10, mixed/tower_1/mixed/conv_1/conv2d_params."""
    names = inception_weights.NAMES.items()
    spelling = {canonical: name for name, canonical in names if name.startswith(("mixed", "conv"))}
    parts = {
        "kernel": "conv2d_params",
        "beta": "batchnorm/beta",
        "mean": "batchnorm/moving_mean",
        "var": "batchnorm/moving_variance",
    }
    stored = {}
    for name, array in arrays.items():
        convolution, _, part = name.rpartition(".")
        words = spelling[convolution].replace("_tower", "/tower").replace("_mixed_conv", "/mixed/conv")
        words = words.replace("_conv", "/conv") if words.startswith("mixed") else words
        stored[f"{words}/{parts[part]}"] = array
    if head is not None:
        stored["softmax/weights"] = head
    return stored


@pytest.mark.parametrize("spell", [as_pytorch, as_tensorflow])
def test_namings_give_the_same_arrays(arrays, head, spell):
    found, found_head = canonical_arrays(spell(arrays, head), "x")
    assert hash_arrays(found) == hash_arrays(arrays)
    np.testing.assert_array_equal(found_head, head)


def test_the_names_of_the_graph_are_those_that_tensorflow_uses(arrays):
    names = set(as_tensorflow(arrays))
    assert {
        "conv/conv2d_params",
        "conv_4/batchnorm/beta",
        "mixed/tower/conv_1/conv2d_params",
        "mixed_8/tower_1/conv_3/batchnorm/moving_mean",
        "mixed_10/tower_1/mixed/conv_1/conv2d_params",
        "mixed_9/tower/mixed/conv/conv2d_params",
        "mixed_3/conv/conv2d_params",
    } <= names
    assert len(names) == 4 * 94


def test_batch_norm_is_folded(arrays):
    params = inception_weights.flax_params(arrays)["params"]
    name, scale = "Mixed_5b.branch5x5_1", 1 / np.sqrt(arrays["Mixed_5b.branch5x5_1.var"] + 1e-3)
    folded = params["Mixed_5b"]["branch5x5_1"]
    np.testing.assert_allclose(folded["kernel"], arrays[f"{name}.kernel"] * scale, rtol=1e-6)
    np.testing.assert_allclose(folded["bias"], arrays[f"{name}.beta"] - arrays[f"{name}.mean"] * scale, rtol=1e-6)
    assert len(jax.tree.leaves(params)) == 2 * 94


def test_half_precision_copies_have_the_same_fingerprint(arrays):
    halves = {name: array.astype(np.float16) if name.endswith("kernel") else array for name, array in arrays.items()}
    assert hash_arrays(halves) != hash_arrays(arrays)
    assert fingerprint(halves) == fingerprint(arrays)
    changed = dict(arrays, **{"Conv2d_1a_3x3.beta": arrays["Conv2d_1a_3x3.beta"] + 1})
    assert fingerprint(changed) != fingerprint(arrays)


def test_unknown_weights_are_refused_unless_their_hash_is_given(arrays, head, tmp_path):
    path = tmp_path / "net.npz"
    write_npz(path, as_pytorch(arrays, head))
    with pytest.raises(UserError, match=f"not the published.*--inception_sha256={hash_arrays(arrays)}"):
        load_weights(path)
    weights = load_weights(path, hash_arrays(arrays))
    assert weights.name == "inception-unpublished" and weights.sha256 == hash_arrays(arrays)
    assert weights.head.shape == (2048, 1008) and weights.head_sha256
    with pytest.raises(UserError, match="the arrays have sha256"):
        load_weights(path, "0" * 64)


def test_published_weights_are_known_in_safetensors_too(arrays, tmp_path, monkeypatch):
    import safetensors.numpy

    path = tmp_path / "net.safetensors"
    safetensors.numpy.save_file({k: np.ascontiguousarray(v) for k, v in as_pytorch(arrays).items()}, path)
    monkeypatch.setitem(inception_weights.KNOWN_FINGERPRINTS, fingerprint(arrays), "known")
    monkeypatch.setenv(inception_weights.VARIABLE, str(path))
    weights = load_weights()
    assert weights.name == "known" and weights.head is None


def damaged(arrays, change):
    stored = as_pytorch(arrays)
    change(stored)
    return stored


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda stored: stored.pop("Mixed_7c.branch_pool.bn.bias"), "Mixed_7c.branch_pool.beta is missing"),
        (lambda stored: stored.update({"Mixed_9z.conv.weight": np.zeros(3)}), "not a name of the FID Inception"),
        (lambda stored: stored.update({"Conv2d_1a_3x3.conv.weight": np.zeros((32, 3, 5, 5))}), "has shape"),
        (lambda stored: stored.update({"Conv2d_1a_3x3.bn.weight": np.full(32, 0.5)}), "gamma is not one everywhere"),
        (lambda stored: stored.update({"Conv2d_1a_3x3.bn.bias": np.full(32, np.nan)}), "holds NaN"),
        (lambda stored: stored.update({"fc.weight": np.zeros((10, 10))}), "head has shape"),
    ],
)
def test_wrong_files_are_explained(arrays, change, message):
    with pytest.raises(UserError, match=message):
        canonical_arrays(damaged(arrays, change), "x.npz")


def test_files_that_are_no_arrays(tmp_path):
    pickled = tmp_path / "pickled.npz"
    np.savez(pickled, a=np.array([{"code": 1}], dtype=object))
    cut = tmp_path / "cut.npz"
    write_npz(cut, {"a": np.zeros(100)})
    cut.write_bytes(cut.read_bytes()[:200])
    (tmp_path / "text.npz").write_text("hello")
    (tmp_path / "net.pth").write_bytes(b"")
    for name, message in [
        ("pickled.npz", "damaged, or not"),
        ("cut.npz", "damaged"),
        ("text.npz", "damaged"),
        ("net.pth", "pickles never are"),
        ("none.npz", "no such file"),
    ]:
        with pytest.raises(UserError, match=message):
            read_arrays(tmp_path / name)


# A frozen graph is written here by hand: the bytes of Protocol Buffers are few.
def varint(value):
    data = b""
    while value > 127:
        data, value = data + bytes([value & 127 | 128]), value >> 7
    return data + bytes([value])


def message(field, content):
    return varint(field << 3 | 2) + varint(len(content)) + content


def constant(name, array):
    shape = b"".join(message(2, b"\x08" + varint(size)) for size in array.shape)
    tensor = b"\x08\x01" + message(2, shape) + message(4, array.astype("<f4").tobytes())
    attribute = message(1, b"value") + message(2, message(8, tensor))
    data_type = message(1, b"dtype") + message(2, b"\x30\x01")
    return message(1, message(1, name.encode()) + message(2, b"Const") + message(5, data_type) + message(5, attribute))


def test_frozen_graph_is_converted(arrays, head, tmp_path, monkeypatch, capsys):
    other = message(1, message(1, b"conv/Conv2D") + message(2, b"Conv2D"))
    graph = other + b"".join(constant(name, array) for name, array in as_tensorflow(arrays, head).items())
    source, output = tmp_path / "graph.pb", tmp_path / "net.npz"
    source.write_bytes(graph)
    assert convert_inception.main([str(source), str(output)]) == 2
    assert "not the published FID Inception" in capsys.readouterr().err and not output.exists()
    monkeypatch.setitem(inception_weights.KNOWN_FINGERPRINTS, fingerprint(arrays), "known")
    assert convert_inception.main([str(source), str(output)]) == 0
    found, found_head = canonical_arrays(read_arrays(output), "x")
    assert hash_arrays(found) == hash_arrays(arrays)
    np.testing.assert_array_equal(found_head, head)
    source.write_bytes(graph[:-7])
    assert convert_inception.main([str(source), str(output)]) == 2
    assert "not a frozen TensorFlow graph" in capsys.readouterr().err


@pytest.mark.peers
def test_pytorch_file_is_converted(arrays, head, tmp_path):
    import torch

    path = tmp_path / "net.pth"
    stored = as_pytorch(arrays, head)
    torch.save({name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in stored.items()}, path)
    found, found_head = canonical_arrays(convert_inception.convert(str(path), unpublished=True), "x")
    assert hash_arrays(found) == hash_arrays(arrays)
    np.testing.assert_array_equal(found_head, head)
    torch.save({"a": print}, path)
    with pytest.raises(UserError, match="not a file of plain tensors"):
        convert_inception.convert(str(path))


@real_files.needs_inception
def test_the_real_file_is_the_pinned_one():
    weights = load_weights(real_files.INCEPTION)
    assert weights.name == "inception-2015-12-05" and weights.head is None
