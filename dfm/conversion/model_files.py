"""Which files hold a model: of a folder of diffusers, sharded or of a variant, or of a single file."""

from pathlib import Path

from dfm.conversion.config_files import CONFIG
from dfm.errors import UserError
from dfm.safetensors_files import SUFFIX, SUFFIXES

STEM = "diffusion_pytorch_model"
PICKLES = (".ckpt", ".bin", ".pt", ".pth")
RECIPE = (
    "pickles run what is in them and never are read; PyTorch makes a {suffix} file: "
    'python -c "import torch, safetensors.torch as s; '
    "d = torch.load('{pickle}', map_location='cpu', weights_only=True); d = d.get('state_dict', d); "
    "s.save_file({{k: v.clone().contiguous() for k, v in d.items() if torch.is_tensor(v)}}, '{target}')\""
)


def find_files(path: Path, config: Path | None) -> tuple[Path, Path | None]:
    """(weights or their index, config.json or None) of a folder, of a pipeline's folder or of a single file.

    Args:
        config: of a single file; None: the config.json beside it, if there is one.

    Raises:
        UserError: nothing there, nothing that is read here, or several that could be meant.
    """
    if not path.exists():
        hub = len(path.parts) == 2 and not path.is_absolute() and not path.suffix and not path.parent.exists()
        hint = "; nothing is downloaded here: give the folder that the model was downloaded to" if hub else ""
        raise UserError(f"{path}: no such file or folder{hint}")
    if path.is_dir():
        if not (path / CONFIG).exists() and (path / "vae" / CONFIG).exists():
            path = path / "vae"
        if not (path / CONFIG).exists():
            raise UserError(f"{path}: holds no {CONFIG}: not a model's folder")
        return _weights_of(path), config or path / CONFIG
    if path.suffix in PICKLES:
        raise UserError(f"{path}: {pickle_recipe(path)}")
    beside = path.parent / CONFIG
    return path, config or (beside if beside.exists() else None)


def _weights_of(folder: Path) -> Path:
    """The full-precision weights of a folder, sharded or not; else its float16 ones; else the only ones there are."""
    for stem in (STEM, "model"):
        for dot in ("", ".fp16", ".bf16"):
            # the last is how diffusers names the index of a variant
            for name in (f"{stem}{dot}{SUFFIX}", f"{stem}{dot}{SUFFIX}.index.json", f"{stem}{SUFFIX}.index{dot}.json"):
                if (folder / name).exists():
                    return folder / name
    found = [file for file in sorted(folder.iterdir()) if file.suffix in SUFFIXES]
    if len(found) == 1:
        return found[0]
    if found:
        raise UserError(f"{folder}: holds several {SUFFIX} files, none of them named {STEM}{SUFFIX}")
    for file in sorted(folder.iterdir()):
        if file.suffix in PICKLES:
            raise UserError(f"{folder}: holds no {SUFFIX} file; {pickle_recipe(file)}")
    raise UserError(f"{folder}: holds no {SUFFIX} file")


def pickle_recipe(path: Path) -> str:
    """One line that says how a pickle becomes a file that is read here."""
    return RECIPE.format(suffix=SUFFIX, pickle=path, target=path.with_suffix(SUFFIX))
