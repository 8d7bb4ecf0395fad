"""The figure of an attribute: latents that get something that other pictures have (notes on VAEs, section 5)."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from dfm.priors import DEFAULT_PRIOR
from dfm.sampling.attributes import attribute_vector, with_attribute
from dfm.sampling.figure_parts import UNHEARD, USUAL_SEARCH, Notes, Search, drawn, latents_of_test, paint_all
from dfm.sampling.outputs import Outputs
from dfm.sampling.painter import Painter
from dfm.sampling.run_data import RunData

MOVED = 8  # latents, unless asked otherwise
READ = 256  # latents between two looks at the direction


def attributes(
    data: RunData,
    painter: Painter,
    outputs: Outputs,
    *,
    attribute: int,
    pictures: Sequence[int] | None = None,
    prior: str = DEFAULT_PRIOR,
    count: int | None = None,
    seed: int = 0,
    temperature: float = 1.0,
    columns: int = 11,
    alpha: float = 1.0,
    label: int | None = None,
    search: Search = USUAL_SEARCH,
    notes: Notes = UNHEARD,
) -> None:
    """A row for each sample of the prior, or test picture: z + a v, a from 0 to alpha; v leads to label `attribute`.

    v is stored beside the grid; training pictures are read in a fixed random order until its direction is settled.
    """
    rows = np.random.default_rng(0).permutation(len(data.train))
    parts = (rows[first : first + READ] for first in range(0, len(rows), READ))
    read = ((data.latents_of_training(part), data.train.labels[part] == attribute) for part in parts)
    found = attribute_vector(read)
    if pictures is None:
        stations = drawn(data, painter, prior, count or MOVED, seed, temperature, notes, label)
        report: dict[str, Any] = {"prior": prior, "seed": seed, "temperature": temperature}
    else:
        stations = latents_of_test(data, np.array(pictures), search, notes)
        report = {"of": "test", "pictures": pictures}
    alphas = np.linspace(0.0, alpha, columns)
    images = paint_all(painter, outputs, with_attribute(stations, found.vector, alphas), notes, label)
    model = data.run.model
    path = outputs.store_latents("attribute", found.vector[None], np.array([attribute]), model.height, model.width)
    facts = {name: value for name, value in dataclasses.asdict(found).items() if name != "vector"}
    outputs.grid(
        "attribute", images, columns, {"label": attribute, "alphas": alphas, "vector": path.name, **facts, **report}
    )
