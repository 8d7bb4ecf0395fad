"""AutoencoderKL between the files of diffusers and LDM (safetensors) and the checkpoints of this package."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dfm.command_line import Parser, checkpoint, run_command, say
from dfm.errors import UserError
from dfm.files import refuse_same_file

if TYPE_CHECKING:
    from dfm.models.autoencoder_kl import AutoencoderKL

EXAMPLES = """INPUT is a run of this package (a workdir), a folder of diffusers (config.json with .safetensors, names
new or old, sharded or not, float16 too; of a pipeline its vae/), or a .safetensors file with the names of diffusers or
LDM. Weights are read as float32. Pickles (.ckpt, .bin, .pt) are never read, and nothing is downloaded.
The scale of a run's latents in config.json is what was measured at the step, or is measured on the run's data.

examples:
  python -m dfm.convert runs/f8c4 f8c4-vae                     a run -> a folder that PyTorch's diffusers opens
  python -m dfm.convert stable-diffusion-v1-5 runs/sd          a folder -> a run, say for --config.pretrained.path
  python -m dfm.convert vae-ft-mse-840000.safetensors sd-vae --to=safetensors     LDM's names -> those of diffusers
  python -m dfm.convert runs/f8c4 f8c4-fp16 --dtype=float16 --shard_megabytes=100
"""
FORMATS = ("safetensors", "checkpoint")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit code: 0, or 2 after one line that says what is wrong."""
    return run_command("dfm.convert", _run, arguments)


def _run(arguments: Sequence[str] | None) -> None:
    parser = Parser(
        prog="dfm.convert", description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("input", metavar="INPUT", help="what there is, see below")
    add("output", metavar="OUTPUT", help="folder to make; one that holds something else is left alone")
    add("--to", choices=FORMATS, help="default: safetensors of a run, a checkpoint of anything else")
    add("--which", type=checkpoint, metavar="latest|best|STEP", help="checkpoint of a run; default latest")
    add("--config", metavar="FILE", help="config.json of a single file; without it, the shapes say what they can")
    add("--data_dir", help="where a run's data are, to measure the scale of latents; default $DFM_DATA_DIR")
    add("--dtype", help="of .safetensors: float32 (default), float16 or bfloat16")
    add("--shard_megabytes", type=int, metavar="N", help="largest size of a .safetensors file; default: one file")
    args = parser.parse_args(arguments)
    if args.shard_megabytes is not None and args.shard_megabytes < 1:
        raise UserError(f"--shard_megabytes must be at least 1, not {args.shard_megabytes}")

    from dfm.conversion import save_pretrained
    from dfm.conversion.config_files import what_diffusers_misses
    from dfm.training.pretrained import load_autoencoder
    from dfm.training.run_folder import holds_run

    is_run = holds_run(args.input)
    target = args.to or ("safetensors" if is_run else "checkpoint")
    _refuse_what_has_no_meaning(args, is_run, target)
    if target == "safetensors":  # a run is never written over
        refuse_same_file(args.output, [args.input])
    _check_output(Path(args.output), target)
    model, params = load_autoencoder(args.input, args.which or "latest", args.config)
    if is_run and model.scaling_factor is None:
        model = _with_measured_scale(model, params, args)
    _note_what_is_unknown(model, args)
    if target == "safetensors":
        shard_bytes = args.shard_megabytes and args.shard_megabytes * 10**6
        save_pretrained(model, params, args.output, args.dtype or "float32", shard_bytes)
        if missed := what_diffusers_misses(model):
            say(f"note: {missed}")
    else:
        save_checkpoint(model, params, args.output)
    print(f"{args.output}: {target}, {_count(params):,} parameters")


def _check_output(folder: Path, target: str) -> None:
    """UserError, before any work, where no such folder may be made."""
    from dfm.conversion.pretrained import check_target

    if folder.suffix.lower() == ".safetensors":
        raise UserError(f"{folder}: a folder is made, whose name must not end in .safetensors")
    if target == "safetensors":
        check_target(folder.absolute())
    else:
        _check_new(folder)


def _check_new(folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder}: exists and is not empty: nothing is overwritten there")


def _with_measured_scale(model: "AutoencoderKL", params: Any, args: argparse.Namespace) -> "AutoencoderKL":
    """The model with the scale of its latents on the run's data; as it is where these are not to be had."""
    from dfm.training.latent_scale import measure_latent_scale
    from dfm.training.run_folder import read_config

    try:
        return model.clone(**measure_latent_scale(model, params, read_config(args.input), args.data_dir))
    except UserError as error:
        say(f"note: the scale of the latents cannot be measured: {error}")
        return model


def _note_what_is_unknown(model: "AutoencoderKL", args: argparse.Namespace) -> None:
    file = Path(args.input)
    if file.is_file() and args.config is None and not (file.parent / "config.json").exists():
        say(
            f"note: norm_num_groups {model.norm_num_groups} is that of the published models; no tensor shows it, "
            "--config does"
        )
    if model.scaling_factor is None:
        say(
            "note: the scale of the latents is not known, and scaling_factor is null in the result; --config says it "
            "of a single file"
        )


def _refuse_what_has_no_meaning(args: argparse.Namespace, is_run: bool, target: str) -> None:
    """UserError for an option that this conversion would ignore."""
    of_what = {
        "which": (is_run, "a run"),
        "data_dir": (is_run, "a run"),
        "config": (not is_run and Path(args.input).is_file(), "a single file"),
        "dtype": (target == "safetensors", "--to=safetensors"),
        "shard_megabytes": (target == "safetensors", "--to=safetensors"),
    }
    for name, (has_meaning, what) in of_what.items():
        if getattr(args, name) is not None and not has_meaning and Path(args.input).exists():
            raise UserError(f"--{name} is for {what}")


def save_checkpoint(model: "AutoencoderKL", params: Mapping[str, Any], workdir: str | Path) -> None:
    """A folder like that of a run, at step 0 and without an optimizer's state: to evaluate, and to start from.

    Raises:
        UserError: the folder is not empty, or cannot be written.
    """
    from dfm import results
    from dfm.config import resolve
    from dfm.conversion.config_files import model_attributes
    from dfm.files import write_atomically
    from dfm.training.checkpoints import Checkpoints
    from dfm.training.run_folder import RUN, claim

    workdir = Path(workdir)
    _check_new(workdir)
    section = {key: value for key, value in model_attributes(model).items() if value is not None}
    objective = {"name": "autoencoder", "perceptual_weight": 0.0, "adversarial_weight": 0.0}
    settings = {"name": "autoencoder_kl", **section, "other_keys": model.other_keys}
    config = resolve({"model": settings, "objective": objective, "dataset": {"name": "none"}, "total_steps": 1})
    sides = model.sample_size if isinstance(model.sample_size, Sequence) else (model.sample_size,) * 2
    with claim(workdir, config):
        with Checkpoints(workdir, keep_last=1, keep_best=0) as checkpoints:
            checkpoints.save(0, {"params": dict(params)}, {}, score=0.0)
            checkpoints.wait()
        command = results.portable_command(["dfm.convert", *sys.argv[1:]])
        facts = {
            "schema": results.SCHEMA,
            "picture_shape": [*sides, model.in_channels],
            "starts": [],
            "command": command,
            **results.provenance(),
        }
        write_atomically(workdir / RUN, (results.dump(facts, indent=2) + "\n").encode())


def _count(params: Any) -> int:
    import jax

    return sum(leaf.size for leaf in jax.tree.leaves(params))


if __name__ == "__main__":
    sys.exit(main())
