"""Rows of the latents profile for `dfm bench`, all pictures and qualities as batches: for an accelerator.

    python scripts/rate_distortion_latents.py KODAK --protocol kodak-256 --effort 3 --output OUT.json.rows.jsonl
    dfm bench KODAK --protocol kodak-256 --codecs dfm-latents,jpeg --effort 3 --output OUT.json

The fits are those of `dfm encode`, side by side. What follows a fit on the processor (step sizes of the networks, the
file, its decode, PSNR and SSIM) is shared by --workers processes. Rows are those that `dfm bench` makes by itself, one
picture after the other, and takes up here; encode_seconds are the batch's divided by its pictures, and `hardware` says
where. Rows that are there already are not made again; with --fits neither are fits, which may be made on one machine
(--fits-only) and finished on another.
"""

import argparse
import io
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import jax
import numpy as np

from dfm import codec, results
from dfm.codec import container
from dfm.codec.bench.codecs import dfm_codec, latent_settings
from dfm.codec.bench.command import load_pictures
from dfm.codec.bench.compilation import compilation_seconds
from dfm.codec.bench.rate_distortion import PROTOCOLS, picture_digest, row_identity, row_key
from dfm.codec.latents import fitting, picture_fit, refinement
from dfm.codec.latents.choices import Choice, Settings
from dfm.codec.latents.profile import LatentsProfile, latents_profile
from dfm.command_line import use_all_cores
from dfm.errors import UserError
from dfm.experiments import run_script
from dfm.files import write_atomically
from dfm.metrics.picture_quality import mse, psnr, ssim

Job = tuple[dict, np.ndarray, Choice]  # what the row is of, the picture, what is fitted


def finish(job: Job, state: tuple, profile: LatentsProfile) -> dict:
    """From a fit to a row, on the processor."""
    identity, picture, _ = job
    begun = time.perf_counter()
    settings = Settings(profile.total_steps, profile.seed, profile.shrinking)
    content = picture_fit.content(picture, picture_fit.State(*state), settings)
    painted = profile.paint(content, picture.shape)
    height, width, channels = picture.shape
    header = container.Header(width, height, channels, profile.name, container.checksum(painted))
    data = container.write(header, profile.pack(content))
    packed = time.perf_counter()
    decoded = codec.decode(data)
    finished = time.perf_counter()
    assert (decoded == painted).all()
    return {
        **identity,
        "width": width,
        "height": height,
        "bytes": len(data),
        "bits_per_pixel": 8 * len(data) / (height * width),
        "psnr": psnr(picture, decoded),
        "ssim": ssim(picture, decoded),
        "mse": mse(picture, decoded),
        "encode_seconds": packed - begun,
        "decode_seconds": finished - packed,
    }


def fitted(batch: Sequence[Job], settings: Settings, path: Path | None) -> tuple[list[picture_fit.State], dict]:
    """States of a batch, and seconds a picture (in all, of compilation) and where; kept in a file if one is named."""
    keys = [row_key(job[0]) for job in batch]
    if path is not None and path.exists():
        with np.load(path) as file:
            if file["jobs"].tolist() != keys:
                raise UserError(f"{path}: holds fits of other pictures or settings")
            states = [load_state(job, file, str(i)) for i, job in enumerate(batch)]
            return states, json.loads(str(file["made"]))
    begun = time.perf_counter()
    with compilation_seconds() as compilation:
        states = picture_fit.begin([job[1] for job in batch], [job[2] for job in batch], settings, None)
        states = jax.device_get(states)
    made = {
        "encode_seconds": (time.perf_counter() - begun) / len(batch),
        "encode_compile_seconds": compilation.total / len(batch),
        "hardware": [device.device_kind for device in jax.devices()],
    }
    if path is not None:
        arrays = {"jobs": np.array(keys), "made": np.array(json.dumps(made))}
        for i, state in enumerate(states):
            arrays[f"{i}/number"] = np.array(state.number)
            # integers from -64 to 63: the hard part has left them where they are
            arrays[f"{i}/latents"] = refinement.latents_vector(state.fit).astype(np.int8)
            arrays |= {f"{i}/network/{name}": np.asarray(array) for name, array in state.fit.networks.items()}
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
        write_atomically(path, buffer.getvalue())
    return states, made


def load_state(job: Job, file: Mapping[str, np.ndarray], name: str) -> picture_fit.State:
    networks: Any = {key.split("/")[2]: file[key] for key in file if key.startswith(f"{name}/network/")}
    latents: Any = file[f"{name}/latents"].astype(np.float32)
    return picture_fit.State(
        fitting.Fit(latents, networks, {}, {}, {}), job[2].rate_weight, int(file[f"{name}/number"])
    )


def batches(jobs: Sequence[Job], most_pixels: int) -> Iterator[list[Job]]:
    """Jobs whose pictures have one shape, of so many pixels together."""
    for shape in dict.fromkeys(picture.shape for _, picture, _ in jobs):
        same = [job for job in jobs if job[1].shape == shape]
        most = max(1, most_pixels // (shape[0] * shape[1]))
        yield from (same[i : i + most] for i in range(0, len(same), most))


def plan(args: argparse.Namespace, profile: LatentsProfile) -> list[Job]:
    """All that is not there yet."""
    known = {row_key(row) for row in results.read_lines(args.output) if "psnr" in row}
    point = dfm_codec("dfm-latents", latent_settings(), args.effort, args.seed)
    jobs = []
    names = args.pictures.split(",") if args.pictures else None
    for name, picture in load_pictures(args.folder, args.protocol, names):
        for setting in [f"q{word}" for word in args.qualities.split(",")] if args.qualities else point.settings:
            identity = row_identity(picture_digest(picture), point, setting, args.protocol)
            if row_key(identity) not in known:
                choice = profile.plan(picture.shape, float(setting[1:]), None).choice
                jobs.append(({"picture": name, **identity}, picture, choice))
    return jobs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="of pictures")
    parser.add_argument("--protocol", default="as-is", choices=PROTOCOLS)
    parser.add_argument("--pictures", help="only these, by name")
    parser.add_argument("--effort", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=max(1, (os.cpu_count() or 2) - 1))
    parser.add_argument("--batch-pixels", type=int, default=picture_fit.BATCH_PIXELS)
    parser.add_argument("--qualities", help="only these of the codec's, comma-separated")
    parser.add_argument("--fits", help="folder that keeps the fits")
    parser.add_argument("--fits-only", action="store_true", help="no rows yet: with --fits")
    parser.add_argument("--output", required=True, help="rows, appended")
    args = parser.parse_args()
    profile = latents_profile(effort=args.effort, seed=args.seed)
    settings = Settings(profile.total_steps, profile.seed, profile.shrinking)
    commit, _ = results.code_state()
    use_all_cores()
    jax.devices()  # before the workers are told to use the processor
    if args.fits:
        Path(args.fits).mkdir(parents=True, exist_ok=True)
    jobs = plan(args, profile)
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"
    with ProcessPoolExecutor(args.workers, get_context("spawn")) as pool:
        waiting: list[tuple[dict, Future]] = []
        for number, batch in enumerate(batches(jobs, args.batch_pixels)):
            begun = time.perf_counter()
            path = Path(args.fits, f"{args.protocol}-{args.effort}-{number}.npz") if args.fits else None
            states, made = fitted(batch, settings, path)
            print(f"batch {number}: {len(batch)} fits, {time.perf_counter() - begun:.1f} s", flush=True)
            if not args.fits_only:
                for job, state in zip(batch, states, strict=True):
                    waiting.append((made, pool.submit(finish, job, tuple(state), profile)))
        for made, future in waiting:
            row = future.result()
            seconds = row["encode_seconds"] + made["encode_seconds"]
            row |= {**made, "encode_seconds": seconds, "decode_compile_seconds": 0.0, "commit": commit}
            results.append_line(args.output, row)
    print(f"{len(jobs)} rows", flush=True)


if __name__ == "__main__":
    run_script(main)
