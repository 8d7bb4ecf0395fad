"""Pictures to files and back: round trips, rate control, robustness of the fit, rounding, and the thesis' recipe."""

import dataclasses
import itertools
import json
import warnings
import zlib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from PIL import Image

from dfm import codec
from dfm.codec import container, encoder, entropy
from dfm.codec.container import Header
from dfm.codec.weights import architectures, fitting, painting, quantization
from dfm.codec.weights.fitting import DEFAULT, THESIS, Schedule
from dfm.errors import UserError
from dfm.metrics.picture_quality import psnr
from dfm.models.fourier import coefficient_count, fourier_net
from dfm.models.literal_fourier import literal_net
from dfm.picture_files import downscale

# Compilation is nearly all of the time here: tests share these nets, and pictures of 192 pixels
WIDTHS = (2, 2)
LADDER = ((2,), WIDTHS)
STEPS = 60
GOLDEN_DIR = Path(__file__).parents[1] / "golden"
GOLDEN_PICTURES = sorted(GOLDEN_DIR.glob("v*_picture_*.dfm"))


@pytest.fixture(scope="module", autouse=True)
def quick_compilation():
    """A third off; the results do not depend on it."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture
def full_optimization():
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", True)


@pytest.fixture(autouse=True)
def few_steps_and_nets(monkeypatch):
    monkeypatch.setattr(encoder, "EFFORT_STEPS", dict.fromkeys((1, 3, 5, 7, 9), STEPS))
    monkeypatch.setattr(architectures, "ladder", lambda channels, basis="cos_sin": LADDER)


@pytest.fixture(scope="module")
def photo(photograph):
    """12x16 RGB."""
    return np.ascontiguousarray(downscale(photograph, 18)[:12, :16])


@pytest.fixture
def no_fit(monkeypatch):
    """Fails the test where a fit is begun."""

    def refuse(*_, **__):
        pytest.fail("a fit was begun")

    monkeypatch.setattr(fitting, "train", refuse)


def pictures_of_12x16(photo):
    noise = np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8)
    colour = np.broadcast_to(np.array([250, 10, 120], np.uint8), (12, 16, 3))
    return {"photograph": photo, "noise": noise, "flat": colour, "black": np.zeros((12, 16, 3), np.uint8)}


# Round trips


@pytest.mark.parametrize("shape", [(12, 16), (12, 16, 1), (12, 16, 3), (1, 1, 3), (7, 13, 3), (400, 400, 3)], ids=str)
def test_round_trip(shape):
    rows, columns, *_ = np.indices(shape, sparse=True)
    image = np.broadcast_to(255 * (rows + columns) // max(1, sum(shape[:2]) - 2), shape).astype(np.uint8)
    data = codec.encode(image, widths=WIDTHS)
    decoded = codec.decode(data)
    header = container.read_header(data)
    assert decoded.dtype == np.uint8 and decoded.shape == (*shape[:2], *(shape[2:] or (1,)))
    assert (header.height, header.width, header.channels) == decoded.shape
    assert header.widths == WIDTHS and header.precision == "quantized" and header.basis == "cos_sin"
    np.testing.assert_array_equal(codec.decode(data), decoded)
    assert codec.is_reference_decode(data, decoded)
    changed = decoded.copy()
    changed[-1, -1, -1] ^= 1
    assert not codec.is_reference_decode(data, changed)


def test_two_and_three_dimensional_grey_are_one(photo):
    assert codec.encode(photo[..., 0], widths=WIDTHS) == codec.encode(photo[..., :1], widths=WIDTHS)


def test_a_fit_is_better_than_one_colour(photo):
    one_colour = np.broadcast_to(np.rint(photo.mean((0, 1))).astype(np.uint8), photo.shape)
    assert psnr(codec.decode(codec.encode(photo, widths=WIDTHS)), photo) > psnr(one_colour, photo) + 1


@pytest.mark.parametrize("basis", ["cos_sin", "cas"])
@pytest.mark.parametrize("precision", container.PRECISIONS)
def test_precisions_and_bases(photo, precision, basis):
    data = codec.encode(photo, widths=WIDTHS, precision=precision, basis=basis)
    header = container.read_header(data)
    assert (header.precision, header.basis) == (precision, basis)
    assert codec.is_reference_decode(data, codec.decode(data))
    assert psnr(codec.decode(data), photo) > 11
    count = header.coefficient_count - (2 + 2 + 3) * (basis == "cos_sin")  # sin(0) is not coded
    if precision != "quantized":
        assert len(data) == 19 + count * np.dtype(precision).itemsize


def test_float16_and_float32_are_the_same_net(photo):
    half, single = (codec.encode(photo, widths=WIDTHS, precision=precision) for precision in ("float16", "float32"))
    for one, other in zip(container.read(half)[1], container.read(single)[1], strict=True):
        for name in one:
            np.testing.assert_array_equal(one[name], other[name].astype(np.float16))


def test_seeds(photo):
    first, again, other = (codec.encode(photo, widths=WIDTHS, seed=seed) for seed in (5, 5, 6))
    assert first == again != other


def test_progress_counts_to_the_end(photo):
    calls = []
    images = [photo, photo[..., :1]]  # two groups
    codec.encode_batch(images, widths=WIDTHS, progress=lambda *call: calls.append(call))
    steps, totals, decibels = zip(*calls, strict=True)
    assert steps == tuple(sorted(steps)) and steps[-1] == 2 * STEPS and set(totals) == {2 * STEPS}
    assert [step for step, value in zip(steps, decibels, strict=True) if np.isnan(value)] == [0, STEPS]  # compiling
    assert all(0 < value < 100 for value in decibels if not np.isnan(value))


def test_effort_steps(monkeypatch):
    monkeypatch.undo()
    steps = [encoder.effort_steps(effort) for effort in range(1, 10)]
    assert steps[::2] == [300, 1_000, 3_000, 10_000, 30_000]
    assert steps == sorted(steps)
    assert steps[1] == round((300 * 1_000) ** 0.5)
    for effort in (0, 10, -1, 2.5):
        with pytest.raises(UserError, match="effort"):
            encoder.effort_steps(effort)


# Batches


def test_batch_of_unequal_pictures(photo):
    """Padding, grouping by channels, and the order of the results."""
    grey = np.ascontiguousarray(photo[..., 1])
    small = np.ascontiguousarray(photo[:7, 3:])
    images = [small, grey, photo, photo[:1, :1]]
    files = codec.encode_batch(images, widths=WIDTHS)
    for image, data in zip(images, files, strict=True):
        decoded = codec.decode(data)
        image = image.reshape(*image.shape[:2], -1)
        assert decoded.shape == image.shape and codec.is_reference_decode(data, decoded)
        if image.size > 3:
            alone = psnr(codec.decode(codec.encode(image, widths=WIDTHS)), image)
            assert psnr(decoded, image) == pytest.approx(alone, abs=2.5)


def test_four_devices_fit_as_one_does(photo, other_photograph):
    """The batch lies on all virtual devices; its nets are those of one device."""
    if len(jax.devices()) != 4:
        pytest.skip("needs four devices")
    flower = np.ascontiguousarray(downscale(other_photograph, 18)[:12, :16])
    pixels = fitting.stack_pictures([photo, flower, photo[::-1], flower[::-1]])
    key, schedule = jax.random.key(0), Schedule(0, STEPS, STEPS)
    state = fitting.start(DEFAULT, WIDTHS, pixels, "cos_sin", key)
    assert {len(leaf.sharding.device_set) for leaf in jax.tree.leaves(state)} == {4}
    one_device = jax.tree.map(lambda leaf: jax.device_put(np.array(leaf), jax.devices()[0]), state)
    sharded = fitting.train(DEFAULT, state, pixels, key, schedule)
    single = fitting.train(DEFAULT, one_device, pixels, key, schedule)
    for found, expected in zip(jax.tree.leaves(sharded.layers), jax.tree.leaves(single.layers), strict=True):
        np.testing.assert_allclose(found, expected, atol=2e-3)


def test_pictures_of_a_batch_do_not_meet(photo):
    """A picture's net is the same whatever lies beside it (equal starts by equal places)."""
    pixels = [fitting.stack_pictures([photo, other]) for other in (photo[::-1], np.full_like(photo, 9))]
    key, found = jax.random.key(3), []
    for each in pixels:
        state = fitting.start(DEFAULT, WIDTHS, each, "cos_sin", key)
        found.append(fitting.train(DEFAULT, state, each, key, Schedule(0, 20, STEPS)))
    for one, other in zip(*(jax.tree.leaves(state.layers) for state in found), strict=True):
        np.testing.assert_allclose(one[0], other[0], atol=1e-6)


def test_groups_that_fill_the_memory_are_cut(monkeypatch, photo):
    images = [photo, photo[::-1], photo[:7, :13]]
    monkeypatch.setattr(encoder, "MOST_GROUP_PICTURES", 1)
    files = codec.encode_batch(images, widths=WIDTHS)
    assert files == [codec.encode(image, widths=WIDTHS) for image in images]
    monkeypatch.undo()
    assert encoder._within_memory([4, 0, 1], images * 2, 1) == [[4, 0, 1]]
    monkeypatch.setattr(encoder, "MOST_GROUP_PIXELS", 400)
    assert encoder._within_memory([4, 0, 1], images * 2, 1) == [[4, 0], [1]]


def test_no_pictures():
    assert codec.encode_batch([]) == []


# Rate control


@pytest.mark.parametrize("kind", ["photograph", "noise", "flat", "black"])
def test_target_bytes_is_never_exceeded(photo, kind):
    image = pictures_of_12x16(photo)[kind]
    for target in (64, 69, 75, 90, 117, 160, 1000):
        data = codec.encode(image, target_bytes=target)
        assert len(data) <= target
        codec.decode(data)


def test_target_bytes_is_used(photo):
    """Near the target, not only below it."""
    for target in (70, 80, 90):
        assert len(codec.encode(photo, widths=WIDTHS, target_bytes=target)) > 0.93 * target - 2


def test_larger_targets_are_better(photo):
    small, large = (psnr(codec.decode(codec.encode(photo, target_bytes=target)), photo) for target in (64, 160))
    assert large > small


@pytest.mark.parametrize("target", [-5, 0, 63])
def test_impossible_bytes_are_refused_at_once(photo, no_fit, target):
    with pytest.raises(UserError, match="too few"):
        codec.encode(photo, target_bytes=target)


def test_bytes_too_few_for_the_pixels_are_refused_at_once(no_fit):
    with pytest.raises(UserError, match="too few for 4000 x 1000 pixels: 977 at least"):
        codec.encode(np.zeros((1000, 4000), np.uint8), target_bytes=900)


@pytest.mark.parametrize("precision", ["float16", "float32"])
def test_bytes_too_few_for_floats_are_refused_at_once(photo, no_fit, precision):
    with pytest.raises(UserError, match="too few"):
        codec.encode(photo, target_bytes=70, precision=precision)


def test_bytes_too_few_for_given_widths_are_refused_at_once(photo, no_fit):
    with pytest.raises(UserError, match="too few"):
        codec.encode(photo, target_bytes=100, widths=(8, 8, 8))


def test_target_psnr_is_reached(photo):
    data = codec.encode(photo, target_psnr=11.5)
    assert psnr(codec.decode(data), photo) >= 11.5
    assert container.read_header(data).widths in LADDER


def test_easy_psnr_takes_a_small_file(photo):
    assert container.read_header(codec.encode(photo, target_psnr=6)).widths == LADDER[0]


def test_psnr_out_of_reach_names_what_was_reached(photo):
    with pytest.raises(UserError, match=r"60 dB is out of reach .*: (\d+\.\d+) dB was the best of \d nets"):
        codec.encode(photo, target_psnr=60)


@pytest.mark.parametrize("target", [float("nan"), float("inf")])
def test_impossible_psnr_is_refused_at_once(photo, no_fit, target):
    with pytest.raises(UserError):
        codec.encode(photo, target_psnr=target)


def test_quality_scale():
    rates = [architectures.bits_per_pixel(quality) for quality in range(101)]
    assert rates[0] == pytest.approx(0.05) and rates[100] == pytest.approx(2) and rates == sorted(rates)
    for quality in (-1, 100.5, float("nan")):
        with pytest.raises(UserError, match="outside 0 ... 100"):
            architectures.bits_per_pixel(quality)


@pytest.mark.parametrize("precision", container.PRECISIONS)
@pytest.mark.parametrize("basis", ["cos_sin", "cas"])
@pytest.mark.parametrize("channels", [1, 3])
def test_ladder(monkeypatch, channels, basis, precision):
    monkeypatch.undo()
    ladder = architectures.ladder(channels, basis)
    counts = [coefficient_count(widths, channels, basis) for widths in ladder]
    assert counts == sorted(set(counts)) and len(set(ladder)) == len(ladder) > 30
    sizes = [architectures.expected_bytes(widths, channels, basis, precision) for widths in ladder]
    assert all(small < large for small, large in itertools.pairwise(sizes))
    for widths, size in zip(ladder, sizes, strict=True):
        Header(1, 1, channels, widths, basis, precision, 0.75, 0)  # every net can be stored
        assert architectures.widths_for(size, channels, basis, precision) == widths
    assert architectures.widths_for(0, channels, basis, precision) == ladder[0]


@pytest.mark.parametrize("shape", [(1, 1, 3), (64, 96, 3), (512, 768, 3), (300, 200, 1)])
@pytest.mark.parametrize("precision", container.PRECISIONS)
def test_planned_bytes_grow_with_quality(monkeypatch, shape, precision):
    monkeypatch.undo()
    settings = encoder.Settings(DEFAULT, STEPS, precision, "cos_sin", 0)
    plans = [
        encoder._plan(np.zeros(shape, np.uint8), settings, quality / 2, None, None).most_bytes for quality in range(201)
    ]
    assert plans == sorted(plans)


def test_quality_is_monotone(monkeypatch, photograph):
    """Bytes, and PSNR within 0.1 dB, of files from q = 10 to 90."""
    monkeypatch.undo()  # at the default effort: fits of few steps scatter more than neighbouring nets differ
    image = downscale(photograph, 48)
    files = [codec.encode(image, quality=quality) for quality in range(10, 100, 20)]
    sizes = [len(data) for data in files]
    decibels = [psnr(codec.decode(data), image) for data in files]
    assert sizes == sorted(sizes) and sizes[-1] > 3 * sizes[0]
    assert all(after > before - 0.1 for before, after in itertools.pairwise(decibels)), decibels


# Options that contradict each other, or do not exist


@pytest.mark.parametrize(
    "options,message",
    [
        ({"quality": 50, "target_bytes": 100}, "only one of"),
        ({"target_psnr": 30, "target_bytes": 100}, "only one of"),
        ({"quality": 50, "preset": "thesis"}, "thesis preset"),
        ({"target_bytes": 90_000, "preset": "thesis"}, "thesis preset"),
        ({"target_psnr": 30, "preset": "thesis"}, "thesis preset"),
        ({"target_psnr": 11, "widths": WIDTHS}, "chooses the widths"),
        ({"preset": "Thesis"}, "known: default, thesis"),
        ({"precision": "int8"}, "known: quantized, float16, float32"),
        ({"basis": "sin"}, "known: cos_sin, cas"),
        ({"quality": 101}, "outside 0 ... 100"),
        ({"effort": 10}, "outside 1 ... 9"),
        ({"widths": (0,)}, "outside 1 ... 12"),
        ({"widths": (13,)}, "outside 1 ... 12"),
        ({"widths": (2,) * 65}, "outside 1 ... 64"),
        pytest.param({"effort": 0}, "outside 1 ... 9"),
        pytest.param({"widths": (9999,)}, "outside 1 ... 12"),
        pytest.param({"widths": WIDTHS, "seed": 10**20}, "seed"),
    ],
)
def test_impossible_options_are_refused_at_once(photo, no_fit, options, message):
    with pytest.raises(UserError, match=message):
        codec.encode(photo, **options)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4, 3)),
        np.zeros((4, 4, 3), np.uint16),
        np.zeros((4, 4, 2), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros(4, np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((1, 4, 4, 3), np.uint8),
    ],
    ids=lambda image: f"{image.dtype}{list(image.shape)}",
)
def test_what_is_no_picture_is_refused(no_fit, image):
    with pytest.raises(UserError, match="pictures are"):
        codec.encode(image)


# Damage


def test_every_corruption_of_a_real_file_is_refused_or_harmless(photo):
    data = codec.encode(photo, widths=WIDTHS)
    picture = codec.decode(data)
    damaged = [data[:length] for length in range(len(data))]
    for position, byte in enumerate(data):
        for flip in (1, 2, 4, 8, 16, 32, 64, 128, 255, 85):
            damaged.append(data[:position] + bytes([byte ^ flip]) + data[position + 1 :])
    for each in damaged:
        try:
            np.testing.assert_array_equal(codec.decode(each), picture)
        except UserError as error:
            assert str(error) and "\n" not in str(error)


def test_changes_under_a_new_checksum_decode_or_are_refused(photo):
    """A file made with intent may be another picture, of a size in proportion to the file, but never a crash."""
    body = codec.encode(photo, widths=WIDTHS)[:-4]
    decoded = 0
    for position in range(20, len(body)):  # the payload: every change of size would compile anew
        changed = body[:position] + bytes([body[position] ^ 129]) + body[position + 1 :]
        try:
            picture = codec.decode(changed + zlib.crc32(changed).to_bytes(4, "little"))
        except UserError:
            continue
        decoded += 1
        assert picture.shape == photo.shape and picture.dtype == np.uint8
    assert decoded


@pytest.mark.parametrize("path", GOLDEN_PICTURES, ids=lambda path: path.stem)
def test_golden_pictures(full_optimization, path):
    """Files fitted once are painted the same for ever, within one level on any machine."""
    expected = np.array(Image.open(path.with_suffix(".png"))).astype(int)
    found = codec.decode(path.read_bytes()).astype(int)
    assert np.abs(found - expected.reshape(found.shape)).max() <= 1
    assert json.loads(path.with_suffix(".json").read_text())["header"]["pixel_checksum"] == zlib.crc32(
        expected.astype(np.uint8).tobytes()
    )


def test_golden_pictures_are_there():
    headers = [container.read_header(path.read_bytes()) for path in GOLDEN_PICTURES]
    assert {header.precision for header in headers} == set(container.PRECISIONS)
    assert {header.basis for header in headers} == {"cos_sin", "cas"} and {h.channels for h in headers} == {1, 3}


# The fit


def fit(recipe, image, total=300, stop=None, seed=0, widths=WIDTHS):
    """State of a fit from its start, and the mean squared error of its output on all pixels."""
    pixels, key = fitting.stack_pictures([image]), jax.random.key(seed)
    state = fitting.start(recipe, widths, pixels, "cos_sin", key)
    state = fitting.train(recipe, state, pixels, key, Schedule(0, stop or total, total))
    return state, error_of(state.layers, image, recipe.input_scale)


def error_of(layers, image, input_scale):
    height, width, channels = image.shape
    rows, columns = (np.indices((height, width)) + 0.5).reshape(2, -1)
    x = np.stack([columns / width, rows / height], -1).astype(np.float32) * input_scale
    painted = jax.jit(literal_net)([{name: c[0] for name, c in layer.items()} for layer in layers], jnp.asarray(x))
    return float(jnp.mean((painted - (image.reshape(-1, channels) / 127.5 - 1)) ** 2))


def test_training_in_parts_is_training(photo):
    pixels, key = fitting.stack_pictures([photo]), jax.random.key(1)
    start = fitting.start(DEFAULT, WIDTHS, pixels, "cos_sin", key)
    copy = jax.tree.map(jnp.copy, start)
    whole = fitting.train(DEFAULT, start, pixels, key, Schedule(0, 100, 100))
    halves = fitting.train(DEFAULT, copy, pixels, key, Schedule(0, 50, 100))
    halves = fitting.train(DEFAULT, halves, pixels, key, Schedule(50, 100, 100))
    for one, other in zip(jax.tree.leaves(whole), jax.tree.leaves(halves), strict=True):
        np.testing.assert_array_equal(one, other)


def test_diverging_fit_goes_on_slower(photo):
    """At sixty times the usual rate."""
    wild = dataclasses.replace(DEFAULT, learning_rate=0.8)
    retreated, error = fit(wild, photo, total=1000)
    left_alone, error_alone = fit(dataclasses.replace(wild, retreats=False), photo, total=1000)
    assert float(retreated.rate[0]) < 1 and float(left_alone.rate[0]) == 1
    assert error < 0.8 * error_alone and error < 0.8 * np.var(photo / 127.5, (0, 1)).mean()


def test_good_fit_keeps_its_rate(photo):
    state, error = fit(DEFAULT, photo)
    assert float(state.rate[0]) == 1
    assert error < 0.8 * np.var(photo / 127.5, (0, 1)).mean()


def test_nan_is_noticed_and_left(photo):
    """One picture of two starts as NaN after a while: only it goes back."""
    pixels, key = fitting.stack_pictures([photo, photo]), jax.random.key(0)
    state = fitting.start(DEFAULT, WIDTHS, pixels, "cos_sin", key)
    train_chunk, calls = fitting._train_chunk, []

    def poisoned(recipe, state, *arguments):
        state, losses = train_chunk(recipe, state, *arguments)
        calls.append(None)
        if len(calls) == 2:
            layers = jax.tree.map(lambda c: c.at[1].set(jnp.nan), state.layers)
            return state._replace(layers=layers), losses.at[1].set(jnp.nan)
        return state, losses

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting, "_train_chunk", poisoned)
        state = fitting.train(DEFAULT, state, pixels, key, Schedule(0, 200, 200))
    assert state.rate.tolist() == [1, 0.5]
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(state))
    assert error_of(jax.tree.map(lambda c: c[1:], state.layers), photo, DEFAULT.input_scale) < 0.5


def spoil(monkeypatch, first, last):
    """The chunks `first` ... `last` - 1 of a training end in NaN."""
    train_chunk, calls = fitting._train_chunk, []

    def spoiled(recipe, state, *arguments):
        state, losses = train_chunk(recipe, state, *arguments)
        calls.append(None)
        if first < len(calls) <= last:
            return state._replace(layers=jax.tree.map(lambda c: jnp.nan * c, state.layers)), jnp.nan * losses
        return state, losses

    monkeypatch.setattr(fitting, "_train_chunk", spoiled)


def test_hopeless_fit_is_an_error(monkeypatch, photo):
    spoil(monkeypatch, 0, 100)
    with pytest.raises(UserError, match="diverged"):
        fit(DEFAULT, photo, total=50 * (fitting.MAX_RETREATS + 3))


def test_nan_in_the_last_steps_is_left_too(monkeypatch, photo):
    spoil(monkeypatch, 5, 6)
    state, error = fit(DEFAULT, photo, total=300)
    assert error < np.var(photo / 127.5, (0, 1)).mean()


@pytest.mark.parametrize("kind", ["colour", "black", "pixel", "dark noise"])
def test_flat_pictures(monkeypatch, kind):
    """Nothing to fit but one colour: at least that is found."""
    monkeypatch.setattr(encoder, "EFFORT_STEPS", dict.fromkeys((1, 3, 5, 7, 9), 400))
    colour = np.array([0, 0, 0] if kind == "black" else [250, 10, 120], np.uint8)
    image = np.broadcast_to(colour, (1, 1, 3) if kind == "pixel" else (12, 16, 3)).copy()
    if kind == "dark noise":  # so many pixels that a small net cannot learn a hundredth of them by heart
        image = np.random.default_rng(0).integers(20, 60, (48, 64, 3), np.uint8)
    one_colour = np.broadcast_to(np.rint(image.mean((0, 1))).astype(np.uint8), image.shape)
    reached = psnr(codec.decode(codec.encode(image, widths=WIDTHS)), image)
    assert reached > min(20, psnr(one_colour, image) - 1)


# Rounding


def random_layers(widths=(2, 3), channels=1, pictures=1, seed=0, scale=0.2):
    generator = np.random.default_rng(seed)
    sizes = fitting.layer_sizes(widths, channels)
    return [
        {name: jnp.asarray(generator.normal(0, scale, (pictures, 2**m, n)), jnp.float32) for name in ("cos", "sin")}
        for m, n in sizes
    ]


def test_rounding_to_steps():
    layers = random_layers(pictures=2)
    steps = jnp.array([[0.25, 0.0, 0.125], [0.0, 0.5, 0.0625]])
    rounded = fitting.round_to_steps(layers, steps)
    for number, (before, after) in enumerate(zip(layers, rounded, strict=True)):
        for picture, step in enumerate(steps[:, number].tolist()):
            for name in before:
                found, original = np.asarray(after[name][picture]), np.asarray(before[name][picture])
                expected = np.round(original / step) * np.float32(step) if step else original
                np.testing.assert_allclose(found, expected, atol=1e-7)


def test_gradients_pass_straight_through_rounding():
    layers, x = random_layers(), jnp.asarray(np.random.default_rng(1).random((1, 20, 2)), jnp.float32)
    steps = jnp.array([[0.25, 0.0, 0.125]])

    def loss(layers, rounded):
        return jnp.sum(fourier_net(fitting.round_to_steps(layers, steps) if rounded else layers, x) ** 2)

    gradient = jax.jit(jax.grad(loss), static_argnums=1)
    found, expected = gradient(layers, True), gradient(fitting.round_to_steps(layers, steps), False)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_layer_sensitivity_is_the_root_mean_square_jacobian(monkeypatch):
    """Up to one common factor, on many probes; the literal net's exact Jacobian is the reference."""
    monkeypatch.setattr(quantization, "PROBES", 400)
    monkeypatch.setattr(quantization, "PROBE_POINTS", 200)
    layers, input_scale = random_layers((2, 2), channels=2, pictures=2), 0.75
    layers[1] = {name: 0.1 * c for name, c in layers[1].items()}
    many_probes = jax.jit(quantization.layer_sensitivity.__wrapped__, static_argnums=1)  # the original has compiled 16
    found = np.asarray(many_probes(layers, input_scale))
    grid = (np.indices((24, 24)).reshape(2, -1).T + 0.5) / 24 * input_scale
    exact_jacobian = jax.jit(jax.jacobian(literal_net))
    for picture, row in enumerate(found):
        net = [{name: c[picture] for name, c in layer.items()} for layer in layers]
        jacobian = exact_jacobian(net, jnp.asarray(grid, jnp.float32))
        exact = [float(jnp.sqrt(jnp.mean(jnp.stack([j**2 for j in layer.values()])))) for layer in jacobian]
        np.testing.assert_allclose(row / row[-1], np.array(exact) / exact[-1], rtol=0.15)


def test_step_indices():
    net = [{name: np.asarray(c[0]) for name, c in layer.items()} for layer in random_layers()]
    sensitivity = np.array([1.0, 4.0, 2.0])
    assert quantization.step_indices(net, sensitivity, 80).tolist() == [64, 80, 72]  # eight an octave
    assert quantization.step_indices(net, sensitivity, 5).tolist() == [0, 5, 0]
    for fineness in (-1, 0, 150, 255):
        indices = quantization.step_indices(net, sensitivity, fineness)
        assert indices.min() >= 0 and indices.max() <= 255
        for layer, index in zip(net, indices, strict=True):  # nothing is clipped
            assert max(np.abs(c).max() for c in layer.values()) / container.step_size(int(index)) <= entropy.MAX + 0.5


def test_step_indices_of_a_saturated_net():
    net = [{name: np.asarray(c[0]) for name, c in layer.items()} for layer in random_layers()]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert quantization.step_indices(net, np.zeros(3), 80).tolist() == [80, 80, 80]


def test_quantize_is_dequantized_within_half_a_step():
    net = [{name: np.asarray(c[0]) for name, c in layer.items()} for layer in random_layers()]
    indices = np.array([60, 70, 65])
    for layer, quantized, step in zip(
        net, quantization.quantize(net, indices), quantization.step_sizes(indices), strict=True
    ):
        found = container.dequantize(quantized)
        assert np.abs(found["cos"] - layer["cos"]).max() <= step / 2 + 1e-6
        assert np.abs(found["sin"][1:] - layer["sin"][1:]).max() <= step / 2 + 1e-6
        assert not found["sin"][0].any()


def test_finest_fitting():
    generator = np.random.default_rng(0)
    for _ in range(50):
        sizes = np.cumsum(generator.integers(0, 3, quantization.STEP_INDICES)) + 20
        for limit in (0, 19, 20, 25, int(sizes[100]), int(sizes[-1]) - 1, int(sizes[-1]), 10_000):
            fitting_ones = np.flatnonzero(sizes <= limit)
            expected = int(fitting_ones[-1]) if len(fitting_ones) else None
            assert quantization.finest_fitting(lambda fineness, sizes=sizes: int(sizes[fineness]), limit) == expected


# Asadi 2022


def test_thesis_constants():
    assert THESIS.learning_rate == 4e-4 and THESIS.schedule == "constant" and not THESIS.scaled_rates
    assert THESIS.batch_pixels == 2**14 and THESIS.coefficient_std == pytest.approx(2e-10**0.5)
    assert THESIS.input_scale == 1 and THESIS.warmup_fraction == 0 and not THESIS.retreats
    assert encoder.RECIPES["thesis"] is THESIS


def test_thesis_start():
    layers = fitting.initial_layers(THESIS, (8,) * 6, 3, "cos_sin", 1, jax.random.key(0))
    values = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(layers)]).astype(np.float64)
    assert values.size == 22_080 and values.dtype == np.float64
    assert values.var() == pytest.approx(2e-10, rel=0.03) and abs(values.mean()) < 4e-7


@pytest.mark.parametrize("effort,steps", [(None, 10_000), (1, STEPS)])
def test_thesis_file(monkeypatch, effort, steps):
    """22,080 float32 weights, less sin(0) of 51 outputs, in 23 bytes of header and checksums at 400 x 400."""
    schedules = []

    def train(recipe, state, pixels, key, schedule, steps=None, progress=None):
        assert recipe is THESIS and steps is None
        schedules.append(schedule)
        return state

    monkeypatch.setattr(fitting, "train", train)
    monkeypatch.setattr(encoder, "paint_file", lambda header, layers: np.zeros((400, 400, 3), np.uint8))
    data = codec.encode(np.zeros((400, 400, 3), np.uint8), preset="thesis", effort=effort)
    assert len(data) == 88_320 - 4 * 51 + 23 == 88_139
    header, layers = container.read(data)
    assert header.widths == (8,) * 6 and header.precision == "float32" and header.basis == "cos_sin"
    assert header.coefficient_count == 22_080 and header.input_scale == 1
    assert all(array.dtype == np.float32 for layer in layers for array in layer.values())
    assert schedules == [Schedule(0, steps, steps)]


def test_thesis_steps_are_plain_adam(photo):
    """Against optax and the literal net, on the same random pixels; only the batch is smaller than the thesis'."""
    recipe, key, steps = dataclasses.replace(THESIS, batch_pixels=64, coefficient_std=0.1), jax.random.key(2), 12
    pixels = fitting.stack_pictures([photo])
    state = fitting.start(recipe, WIDTHS, pixels, "cos_sin", key)
    layers = [{name: jnp.copy(c[0]) for name, c in layer.items()} for layer in state.layers]
    state = fitting.train(recipe, state, pixels, key, Schedule(0, steps, 10_000))

    height, width, channels = photo.shape
    values = jnp.asarray(photo.reshape(-1, channels) / np.float32(127.5) - 1)

    def loss(layers, index):
        x = jnp.stack([(index % width + 0.5) / width, (index // width + 0.5) / height], -1)
        return jnp.mean((literal_net(layers, x.astype(jnp.float32)) - values[index]) ** 2)

    adam, gradient = optax.adam(4e-4), jax.jit(jax.grad(loss))
    moments = adam.init(layers)
    for step in range(steps):
        index = jax.random.randint(jax.random.fold_in(key, step), (1, 64), 0, height * width)[0]
        updates, moments = adam.update(gradient(layers, index), moments)
        layers = optax.apply_updates(layers, updates)
    for number, layer in enumerate(layers):
        np.testing.assert_allclose(state.layers[number]["cos"][0], layer["cos"], atol=1e-5)
        # sin(0) = 0: that row has no gradient but rounding, which Adam makes large, and nothing depends on it
        np.testing.assert_allclose(state.layers[number]["sin"][0][1:], layer["sin"][1:], atol=1e-5)


def test_padding_of_a_smaller_picture_weighs_nothing(photo):
    """A picture that is fitted beside a larger one, all pixels a step, sees each of its own pixels once."""
    small, rate = photo[:5], dataclasses.replace(DEFAULT, schedule="constant", retreats=False)
    both = fitting.stack_pictures([small, photo])
    alone = fitting.stack_pictures([small])
    key = jax.random.key(0)
    pair = fitting.start(rate, WIDTHS, both, "cos_sin", key)
    single = fitting.start(rate, WIDTHS, alone, "cos_sin", key)
    first = [{name: c[:1] for name, c in layer.items()} for layer in pair.layers]
    single = single._replace(layers=jax.tree.map(jnp.copy, first))
    pair = fitting.train(rate, pair, both, key, Schedule(0, 5, 5))
    single = fitting.train(rate, single, alone, key, Schedule(0, 5, 5))
    for together, apart in zip(pair.layers, single.layers, strict=True):
        for name in together:
            np.testing.assert_allclose(together[name][0], apart[name][0], atol=2e-5)


def test_a_wrecked_start_is_not_kept(photo):
    """A rate that scrambles the net in its first steps: the fit must not go back to the scrambled state."""
    wild = dataclasses.replace(DEFAULT, learning_rate=0.1)  # three halvings above the default
    pixels = fitting.stack_pictures([photo])
    key = jax.random.key(0)
    state = fitting.start(wild, (4, 4, 4), pixels, "cos_sin", key)
    state = fitting.train(wild, state, pixels, key, Schedule(0, 1500, 1500))
    flat = 10 * np.log10(4 / np.var(np.asarray(pixels.values[0]), 0).mean())
    painted = painting.paint(
        [{n: np.asarray(c[0]) for n, c in layer.items()} for layer in state.layers], *photo.shape[:2], wild.input_scale
    )
    assert float(state.rate[0]) < 1 and psnr(painted, photo) > flat + 1
