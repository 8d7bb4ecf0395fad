"""--vae: single pictures to latents and back by the command line, and reconstruction jobs on any pictures."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from random_autoencoders import random_params

from dfm import evaluate, sample
from dfm.arrays import to_float, to_uint8
from dfm.conversion import save_pretrained
from dfm.errors import UserError
from dfm.models.autoencoder_kl import AutoencoderKL
from dfm.picture_files import load_picture, save_picture
from dfm.sampling import autoencoder_files
from dfm.sampling.autoencoder_files import FileCoder
from dfm.training.pretrained import load_autoencoder

MODEL = AutoencoderKL(block_out_channels=(4, 8), norm_num_groups=2, latent_channels=3)


@pytest.fixture(scope="module")
def params():
    return random_params(MODEL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, params):
    path = tmp_path_factory.mktemp("vae") / "model"
    save_pretrained(MODEL, params, path)
    return str(path)


@pytest.fixture
def photo(tmp_path, photograph):
    save_picture(tmp_path / "photo.png", photograph[:13, :10])
    return str(tmp_path / "photo.png")


def refused(capsys, *arguments, command=sample):
    assert command.main(list(arguments)) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    return lines[0]


def test_a_photograph_to_latents_and_back(tmp_path, params, folder, photo):
    """13 x 10 pixels pad to 14 x 10; strips give the same latents and, but for rounding, the same picture."""
    latents, again = str(tmp_path / "photo.npz"), str(tmp_path / "again.png")
    assert sample.main(["--vae", folder, "--encode", photo, "--output", latents]) == 0
    assert sample.main(["--vae", folder, "--decode", latents, "--output", again]) == 0
    with np.load(latents) as stored:
        z, size = stored["latents"], (int(stored["height"]), int(stored["width"]))
    assert z.shape == (1, 7, 5, 3) and size == (13, 10)
    images = np.pad(to_float(load_picture(photo))[None], ((0, 0), (0, 1), (0, 0), (0, 0)), mode="edge")
    apply = jax.jit(lambda params, x: MODEL.apply({"params": params}, x, method="moments"))
    np.testing.assert_allclose(z, apply(params, jnp.asarray(images))[..., :3], atol=1e-5)
    decoded = to_uint8(MODEL.apply({"params": params}, z, method="decode"))[0, :13, :10]
    assert np.abs(load_picture(again).astype(int) - decoded).max() <= 1


def test_large_pictures_go_by_strips(tmp_path, monkeypatch, folder, photo):
    paths = [str(tmp_path / name) for name in ("whole.npz", "strips.npz", "whole.png", "strips.png")]
    assert sample.main(["--vae", folder, "--encode", photo, "--pad_to=16", "--output", paths[0]]) == 0
    assert sample.main(["--vae", folder, "--decode", paths[0], "--output", paths[2]]) == 0
    monkeypatch.setattr(autoencoder_files, "WHOLE_PIXELS", 10)
    assert sample.main(["--vae", folder, "--encode", photo, "--pad_to=16", "--output", paths[1]]) == 0
    assert sample.main(["--vae", folder, "--decode", paths[0], "--output", paths[3]]) == 0
    with np.load(paths[0]) as whole, np.load(paths[1]) as strips:
        assert whole["latents"].shape == (1, 8, 8, 3)
        np.testing.assert_allclose(whole["latents"], strips["latents"], atol=1e-5)
    assert np.abs(load_picture(paths[2]).astype(int) - load_picture(paths[3])).max() <= 1
    assert load_picture(paths[2]).shape == (13, 10, 3)


def test_mistakes_are_one_line(tmp_path, capsys, folder, photo):
    to = ["--output", str(tmp_path / "out.npz")]
    assert "--vae takes one of" in refused(capsys, "--vae", folder, *to)
    assert "--encode is for --vae" in refused(capsys, "--workdir", folder, "--encode", photo, *to)
    assert "written as .npz" in refused(capsys, "--vae", folder, "--encode", photo, "--output", str(tmp_path / "x.png"))
    assert "to a multiple of the model's stride" in refused(
        capsys, "--vae", folder, "--encode", photo, "--pad_to=3", *to
    )
    assert "no such file" in refused(capsys, "--vae", str(tmp_path / "none"), "--encode", photo, *to)
    for option in ("--what=morph", "--prior=gmm", "--count=3", "--size=64", "--class=1"):
        assert f"{option.partition('=')[0]} is for --workdir" in refused(
            capsys, "--vae", folder, "--encode", photo, option, *to
        )
    assert "--which is for a run, and --vae names none" in refused(
        capsys, "--vae", folder, "--encode", photo, "--which=7", *to
    )
    with pytest.raises(UserError, match="which is for a run, and .* is none"):
        load_autoencoder(folder, 7)
    decode = ("--vae", folder, "--decode", photo, "--output", str(tmp_path / "y.png"))
    assert "--pad_to is for --encode" in refused(capsys, *decode, "--pad_to=8")
    for change, message in (
        ({"latents": np.zeros((1, 2, 2, 4), np.float32)}, "4 channels, and the model's 3"),
        ({"latents": np.full((1, 2, 2, 3), np.nan, np.float32)}, "NaN"),
        ({"latents": np.zeros((2, 2, 3), np.float32)}, "must be floats"),
        ({"latents": np.full((1, 2, 2, 3), 1e300)}, "NaN or infinities (in float32)"),
        ({"height": np.inf}, "height and width must be numbers"),
        ({"height": 5}, "5 x 4 pixels do not come of latents"),
        ({"width": None}, "holds no width"),
        ({"stride": 8}, "of a model of stride 8, and this one's is 2"),
    ):
        arrays = {"latents": np.zeros((1, 2, 2, 3), np.float32), "height": 4, "width": 4} | change
        np.savez(tmp_path / "bad.npz", **{name: value for name, value in arrays.items() if value is not None})
        found = refused(
            capsys, "--vae", folder, "--decode", str(tmp_path / "bad.npz"), "--output", str(tmp_path / "y.png")
        )
        assert message in found
    assert not (tmp_path / "out.npz").exists() and not (tmp_path / "y.png").exists()


def test_reconstruction_of_a_folder(tmp_path, monkeypatch, capsys, params, folder, photograph):
    """PSNR of the job is that of encode and decode by hand; the line names the model by its weights."""
    (tmp_path / "pictures").mkdir()
    originals = [photograph[row : row + 12, :16] for row in (0, 20, 40)]
    for number, picture in enumerate(originals):
        save_picture(tmp_path / "pictures" / f"{number}.png", picture)
    reference = f"--reference=folder:{tmp_path / 'pictures'}"
    assert evaluate.main([f"--vae={folder}", "--metrics=psnr,ssim", reference, "--quiet"]) == 0
    lines = {line["metric"]: line for line in map(json.loads, capsys.readouterr().out.splitlines())}
    run = jax.jit(lambda params, x: MODEL.apply({"params": params}, x))
    painted = to_uint8(run(params, jnp.asarray(to_float(np.stack(originals)))))
    errors = np.square(painted.astype(float) - np.stack(originals)).mean((1, 2, 3))
    assert lines["psnr"]["value"] == pytest.approx(np.mean(10 * np.log10(255**2 / errors)), abs=0.05)
    assert lines["psnr"]["latents_by"] == "encoder" and lines["psnr"]["samples"]["count"] == 3
    assert lines["psnr"]["run"]["config"]["model"]["latent_channels"] == 3
    save_picture(tmp_path / "pictures" / "larger.png", photograph)
    mixed = (f"--vae={folder}", "--metrics=psnr", reference, "--quiet")
    assert "of one size are needed" in refused(capsys, *mixed, command=evaluate)
    assert evaluate.main([f"--vae={folder}", "--metrics=psnr", reference, "--size=8", "--quiet"]) == 0
    assert json.loads(capsys.readouterr().out)["reference"]["id"] == "pictures at 8x8"
    assert "--size must be at least 1" in refused(capsys, f"--vae={folder}", reference, "--size=0", command=evaluate)
    assert "--size is for --reference or --make_stats" in refused(
        capsys, f"--vae={folder}", "--size=8", command=evaluate
    )
    monkeypatch.delenv("DFM_LPIPS_WEIGHTS", raising=False)
    assert "no samples" in refused(capsys, f"--vae={folder}", "--metrics=fid", reference, "--size=8", command=evaluate)
    assert "an autoencoder needs a reference" in refused(capsys, f"--vae={folder}", "--metrics=psnr", command=evaluate)


def test_diagnostics_of_a_folder(tmp_path, capsys, photograph):
    """Latents against N(0, I) and the decoder's stretch, at the pictures of the reference."""
    model = AutoencoderKL(block_out_channels=(2,), layers_per_block=1, norm_num_groups=1, latent_channels=3)
    params, folder = random_params(model), tmp_path / "small"
    save_pretrained(model, params, folder)
    corners = [(row, column) for row in range(0, 40, 4) for column in (0, 9)]
    originals = np.stack([photograph[row : row + 2, column : column + 2] for row, column in corners])
    np.savez(tmp_path / "pictures.npz", images=originals)
    words = [f"--vae={folder}", f"--reference={tmp_path / 'pictures.npz'}", "--quiet"]
    assert evaluate.main([*words, "--metrics=latents,smoothness"]) == 0
    lines = {line["metric"]: line for line in map(json.loads, capsys.readouterr().out.splitlines())}
    encoded = model.apply({"params": params}, jnp.asarray(to_float(originals)), method="encode")
    z = np.asarray(encoded.mode(), np.float64).reshape(20, -1)
    covariance, mean = np.cov(z, rowvar=False), z.mean(0)
    exact = 0.5 * (np.trace(covariance) + mean @ mean - z.shape[1] - np.linalg.slogdet(covariance)[1])
    # random weights leave directions whose variance is float32's rounding: their logarithms differ by compilation
    assert lines["posterior_kl"]["value"] == pytest.approx(exact, rel=0.02)
    assert lines["posterior_kl"]["prior"] == "normal" and lines["active_units"]["details"]["count"] == 20
    assert 0 < lines["smoothness"]["value"] <= lines["smoothness"]["details"]["largest"]
    for name in ("memorisation", "fid"):
        assert "makes reconstructions and no samples" in refused(capsys, *words, f"--metrics={name}", command=evaluate)


def test_a_folder_of_pictures_to_a_folder_of_latents_and_back(tmp_path, capsys, folder, photograph):
    """Odd sizes return at their size; grey ones become coloured; what cannot be read is told, and the rest is done."""
    shapes = {"odd.png": (83, 31, 3), "deep/grey.png": (9, 12, 1), "deep/small.png": (1, 1, 3)}
    pictures = tmp_path / "pictures"
    for name, (height, width, channels) in shapes.items():
        (pictures / name).parent.mkdir(parents=True, exist_ok=True)
        picture = np.resize(photograph, (height, width, 3))[..., :channels]
        save_picture(pictures / name, picture)
    (pictures / "broken.png").write_bytes(b"no picture")
    latents, back = tmp_path / "latents", tmp_path / "back"
    assert sample.main([f"--vae={folder}", f"--encode={pictures}", f"--output={latents}", "--pad_to=4"]) == 2
    told = capsys.readouterr()
    assert len(told.out.splitlines()) == 3 and "1 of 4 files failed" in told.err and "broken.png" in told.err
    assert sorted(str(path.relative_to(latents)) for path in latents.rglob("*.npz")) == [
        "deep/grey.npz",
        "deep/small.npz",
        "odd.npz",
    ]
    assert sample.main([f"--vae={folder}", f"--decode={latents}", f"--output={back}"]) == 0
    for name, (height, width, _) in shapes.items():
        assert load_picture(back / name).shape == (height, width, 3)
    save_picture(pictures / "odd.jpg", photograph[:8, :8])
    both = [f"--vae={folder}", f"--encode={pictures}", f"--output={latents}"]
    assert "would both become" in refused(capsys, *both)
    assert "would be lost" in refused(capsys, f"--vae={folder}", f"--decode={latents}", f"--output={latents}")
    (tmp_path / "empty").mkdir()
    empty = f"--encode={tmp_path / 'empty'}"
    assert "no pictures in this folder" in refused(capsys, f"--vae={folder}", empty, f"--output={latents}")


def test_float16_that_overflows_is_told_by_its_file(tmp_path, params, photo):
    """A convolution made so large that float16 cannot hold its results."""
    convolution = jax.tree.map(lambda leaf: leaf * 1e6, params["encoder"]["conv_out"])
    large = {**params, "encoder": {**params["encoder"], "conv_out": convolution}}
    coder = FileCoder(MODEL.clone(dtype="float16"), large)
    with pytest.raises(UserError, match="photo.png: the encoder makes NaN .* float16 overflows .force_upcast."):
        with pytest.warns(RuntimeWarning, match="float16 overflowed"):
            coder.encode_file(photo, tmp_path / "photo.npz")
            jax.effects_barrier()
    assert not (tmp_path / "photo.npz").exists()
