"""Fitted priors as .npz files: the arrays of the density, its family's name, and facts about its fit as JSON."""

import io
import json
import os
import zipfile
from typing import Any

import numpy as np

from dfm.array_files import open_npz
from dfm.errors import UserError
from dfm.files import write_atomically
from dfm.priors import find
from dfm.priors.by_class import restored
from dfm.priors.prior import Prior
from dfm.results import dump


def save(path: str | os.PathLike, prior: Prior, facts: dict[str, Any]) -> None:
    """Writes the prior and what is known of its fit (plain JSON values); the file appears only when complete."""
    buffer = io.BytesIO()
    # Any: NumPy's stub takes the first of the unpacked arguments for its flag allow_pickle
    arrays: dict[str, Any] = {"prior": prior.name, "facts": dump(facts), **prior.arrays()}
    np.savez(buffer, **arrays)
    write_atomically(path, buffer.getvalue())


def load(path: str | os.PathLike) -> tuple[Prior, dict[str, Any]]:
    """What `save` wrote: the prior and the facts about its fit.

    Raises:
        UserError: no such file, or one that `save` did not write.
    """
    try:
        with open_npz(path) as file:
            contents = dict(file)
        family = find(str(contents.pop("prior")))
        facts = json.loads(str(contents.pop("facts")))
        return restored(family, contents), facts
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, UserError) as error:
        raise UserError(f"{path}: not a stored prior, or damaged ({' '.join(str(error).split())})") from None
