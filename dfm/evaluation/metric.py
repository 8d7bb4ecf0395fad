"""The one kind of entry that every metric is: what it is of, what it needs, and how it is computed from that."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, UInt8

from dfm.evaluation.measure import Measured
from dfm.evaluation.sources import Shape, Source
from dfm.metrics.features import FeatureNetwork
from dfm.metrics.weight_files import WeightFiles

if TYPE_CHECKING:
    from dfm.priors.prior import Prior
    from dfm.sampling import RunData

SAMPLES, RECONSTRUCTIONS, MODEL = "samples", "reconstructions", "model"  # what a metric is of
Pictures = UInt8[np.ndarray, "n height width channel"]


@dataclass(frozen=True)
class Value:
    """A number, how far it scatters and over what, and the numbers it is made of.

    Attributes:
        value: None where there is no such number; `details["why_null"]` says why.
        warnings: what a reader of this number must know.
    """

    value: float | None
    spread: float | None = None
    spread_over: str | None = None  # "subsets", "splits", "pictures" or "repeats"
    details: dict[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


def no_value(why: str, **details: Any) -> Value:
    return Value(None, details=details | {"why_null": why})


@dataclass(frozen=True)
class PairMeasure:
    """A number for each pair of an original and its reconstruction: NaN where there is none, as `why_null` says.

    Attributes:
        details: about it, for the result.
    """

    function: Callable[[Pictures, Pictures], Float[np.ndarray, " n"]]
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Inputs:
    """What a metric may look at. What its entry does not ask for may be missing.

    Attributes:
        measured: the samples, or, for a metric of these, the reconstructions, as `network` sees them.
        pairs: numbers of the entry's `pairs`, a picture each.
        data, prior: the model with its pictures and latents; the density that its latents are drawn from.
        samples: the pictures themselves, for a metric on samples without features; drawn from the model, for one of
            the model that wants some.
        originals: pictures of the reference, for a metric on samples without features or on the model.
        draws: of latents a picture, for importance-weighted bounds.
        folder: for pictures that belong to a result; None: nowhere.
    """

    seed: int
    network: FeatureNetwork | None = None
    measured: Measured | None = None
    reference: Measured | None = None
    pairs: Float[np.ndarray, " n"] | None = None
    pair_details: dict[str, Any] = field(default_factory=dict)
    data: "RunData | None" = None
    prior: "Prior | None" = None
    prior_name: str | None = None
    samples: Source | None = None
    originals: Source | None = None
    draws: int = 1
    folder: Path | None = None
    note: Callable[[str], None] = lambda line: None


@dataclass(frozen=True)
class Metric:
    """How to compute it, what it is of, and what it needs.

    Attributes:
        compute: values by name; most metrics have one, of their own name.
        of: SAMPLES, RECONSTRUCTIONS or MODEL.
        groups: words of --metrics that stand for it among others.
        features: compares features of a network, so that NAME-NETWORK has a meaning. A metric on samples without
            them goes through the pictures, `Inputs.samples` and `Inputs.originals`.
        reference: needs the other set, or the pictures to reconstruct.
        sample_features, reference_features: needs the features themselves, beyond their moments.
        logits: needs the network's classes.
        smallest: pictures on each side.
        pairs: what is measured of each original and its reconstruction while they pass by; UserError where it cannot.
        prior: depends on the prior; without it one line serves all priors.
        draws: needs samples of the model.
        latents: needs latents of the training pictures.
        likelihood: needs a model that was trained for a bound on log p(x).
        options: that it reads beyond those that follow from the rest, see `reads`.
    """

    compute: Callable[[Inputs], dict[str, Value]]
    about: str
    of: str
    groups: tuple[str, ...] = ()
    features: bool = False
    reference: bool = True
    sample_features: bool = False
    reference_features: bool = False
    logits: bool = False
    smallest: int = 1
    pairs: Callable[[WeightFiles, Shape], PairMeasure] | None = None
    prior: bool = False
    draws: bool = False
    latents: bool = False
    likelihood: bool = False
    options: tuple[str, ...] = ()

    @property
    def reads(self) -> frozenset[str]:
        """Options of a run's evaluation that it looks at; typed for metrics that all ignore them, they are refused."""
        found = set(self.options)
        if self.of == SAMPLES:
            found.add("repeats")
        if self.of == SAMPLES or self.draws:
            found |= {"num_samples", "temperature"}
        if self.of == SAMPLES or self.prior:
            found.add("prior")
        if self.of == RECONSTRUCTIONS:
            found.add("invert_steps")
        return frozenset(found)
