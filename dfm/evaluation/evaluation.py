"""One evaluation at work: measures each set once for all its networks and makes a line for every metric."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dfm import results
from dfm.evaluation.measure import Measured, gather_numbers, measure_all
from dfm.evaluation.metric import MODEL, RECONSTRUCTIONS, SAMPLES, Inputs, Value
from dfm.evaluation.plan import Plan
from dfm.evaluation.protocols import QUANTISATION
from dfm.evaluation.reconstruction import Compared, Reconstructions
from dfm.evaluation.references import Statistics, hash_source, measure_reference
from dfm.evaluation.registry import Request, result_name
from dfm.evaluation.report import Line, make_line, merge_repeats
from dfm.evaluation.sources import Source
from dfm.metrics.blas import single_threaded
from dfm.metrics.features import Extractor
from dfm.progress import Progress
from dfm.sampling.run_data import INVERSION

if TYPE_CHECKING:
    from dfm.priors.prior import Prior
    from dfm.sampling import RunData

FEW_SAMPLES = 2048  # fewer than features, and the covariance is singular
FRECHET = ("fid", "rfid", "fid_infinity")
PRECISION = "features float32 with the highest matmul precision, statistics float64"


@dataclass
class Sampler:
    """One way to get samples: `sources` gives them for each seed; a prior only where a model is sampled."""

    sources: Callable[[int], Source] | None = None  # None: a model that is not sampled
    prior_name: str | None = None
    prior: "Callable[[], Prior] | None" = None
    temperature: float | None = None


@dataclass
class Evaluation:
    """A plan with all that it works on; `lines` does the work.

    Attributes:
        facts, warnings: the same in every line.
        cache: folder where features of data sets are kept; None: nowhere.
        folder: for pictures that belong to results; None: nowhere.
    """

    plan: Plan
    samplers: Sequence[Sampler]
    reference: Source | Statistics | None = None
    seeds: Sequence[int] = (0,)
    batch_size: int | None = None
    cache: Path | None = None
    data: "RunData | None" = None
    facts: dict[str, Any] = field(default_factory=dict)
    warnings: Sequence[str] = ()
    quiet: bool = True  # no progress bars
    note: Callable[[str], None] = lambda line: None
    invert_steps: int = 300
    importance_samples: int = 1
    folder: Path | None = None
    _references: dict[str, Measured] = field(default_factory=dict)
    _extractors: dict[str, Extractor] = field(default_factory=dict)

    def lines(self) -> Iterator[Line]:
        """Every result, as soon as it is there."""
        for number, sampler in enumerate(self.samplers):
            yield from self._feature_lines(sampler)
            yield from self._picture_lines(sampler)
            yield from self._model_lines(sampler, is_first=number == 0)
        yield from self._reconstruction_lines()

    def _feature_lines(self, sampler: Sampler) -> Iterator[Line]:
        """What compares features of samples: these are gone through once a seed, for all networks."""
        by_network = self.plan.networks_of(SAMPLES)
        if not by_network or sampler.sources is None:
            return
        begin = time.perf_counter()
        references = self._references_of(by_network)  # first: what is wrong with them shows
        keep = _networks_with(by_network, "sample_features")
        measured = []
        for seed in self.seeds:
            source = sampler.sources(seed)
            label = ", ".join(part for part in ("samples", sampler.prior_name) if part)
            with self._progress(label, source.count) as progress:
                measured.append(measure_all(source, self._extractors_of(by_network), keep, progress.advance))
        for network, requests in by_network.items():
            of_network = [one[network] for one in measured]
            for request in requests:
                reference = references[network] if request.entry.reference else None
                facts = self._sampler_facts(sampler) | self._set_facts(of_network, reference, request)
                inputs = [
                    Inputs(seed, self.plan.networks[network], samples, reference)
                    for samples, seed in zip(of_network, self.seeds, strict=True)
                ]
                yield from self._lines(request, inputs, facts, begin)

    def _picture_lines(self, sampler: Sampler) -> Iterator[Line]:
        """What looks at the pictures of samples and reference themselves: each metric goes through them."""
        for request in self.plan.of(SAMPLES):
            if request.network is not None or sampler.sources is None:
                continue
            begin, sources = time.perf_counter(), [sampler.sources(seed) for seed in self.seeds]
            originals = self._pictures_of_reference() if request.entry.reference else None
            shown = [*sources, *([originals] if originals else [])]
            facts = self._sampler_facts(sampler) | {
                "samples": {"id": sources[0].id, "count": sources[0].count, "sha256": None},
                "reference": _described(originals) if originals else None,
                "quantisation": QUANTISATION,
                "warnings": [*self.warnings, *(warning for source in shown for warning in source.warnings)],
            }
            each = zip(self.seeds, sources, strict=True)
            inputs = [Inputs(seed, samples=source, originals=originals) for seed, source in each]
            yield from self._lines(request, inputs, facts, begin)

    def _model_lines(self, sampler: Sampler, is_first: bool) -> Iterator[Line]:
        """What looks at the model; what no prior changes is there once."""
        for request in self.plan.of(MODEL):
            entry = request.entry
            if not (is_first or entry.prior):
                continue
            begin, seed = time.perf_counter(), self.seeds[0]
            inputs = Inputs(
                seed,
                data=self.data,
                prior=sampler.prior() if entry.prior and sampler.prior else None,
                prior_name=sampler.prior_name,
                samples=sampler.sources(seed) if entry.draws and sampler.sources else None,
                originals=self._pictures_of_reference() if entry.reference else None,
                draws=self.importance_samples,
                folder=self.folder,
                note=self.note,
            )
            whose = sampler if entry.prior else Sampler()
            facts = self._sampler_facts(whose) | {"seeds": [seed], "warnings": list(self.warnings)}
            if inputs.originals is not None:
                facts["reference"] = _described(inputs.originals)
            yield from self._lines(request, [inputs], facts, begin)

    def _pictures_of_reference(self) -> Source | None:
        assert not isinstance(self.reference, Statistics)  # the plan saw to it
        return self.reference

    def _reconstruction_lines(self) -> Iterator[Line]:
        """PSNR and its kin, and the distance of reconstructions: the floor under the distance of samples."""
        requests, by_network = self.plan.of(RECONSTRUCTIONS), self.plan.networks_of(RECONSTRUCTIONS)
        if not requests:
            return
        assert self.data is not None and self.reference is not None and not isinstance(self.reference, Statistics)
        begin, originals = time.perf_counter(), self.reference
        references = self._references_of(by_network)
        made = Reconstructions(self.data, originals, self.invert_steps, self.note)
        source = Compared(made, self.plan.pair_measures)
        with self._progress("reconstructions", originals.count) as progress:
            measured = measure_all(source, self._extractors_of(by_network), (), progress.advance)
        facts: Line = {
            "latents_by": made.how,
            "samples": {"id": source.id, "count": source.count, "sha256": None},
            "reference": _described(originals),
            "quantisation": QUANTISATION,
            "warnings": [*source.warnings, *self.warnings],
        }
        if made.how == INVERSION:
            facts["invert_steps"] = self.invert_steps
        for request in requests:
            if request.network is None:
                details = self.plan.pair_measures[request.name].details
                numbers = gather_numbers(source.numbers(request.name))
                yield from self._lines(
                    request, [Inputs(self.seeds[0], pairs=numbers, pair_details=details)], facts, begin
                )
                continue
            mine, reference = measured[request.network], references[request.network]
            own = facts | self._set_facts([mine], reference, request)
            inputs = Inputs(self.seeds[0], self.plan.networks[request.network], mine, reference)
            yield from self._lines(request, [inputs], own, begin)

    def _lines(self, request: Request, inputs: Sequence[Inputs], facts: Line, begin: float) -> Iterator[Line]:
        """A line for each value of this metric, merged over repeats."""
        first = inputs[0].measured
        # the products of kernels and neighbours are of two blocks of about a thousand vectors
        product = min(first.count or 0, 1000) ** 2 * first.moments.mean.size if first else None
        with single_threaded(unless_above=product):
            values = [request.entry.compute(one) for one in inputs]
        for name in values[0]:
            merged: Value = merge_repeats([value[name] for value in values])
            own = facts | {"warnings": sorted({*facts["warnings"], *merged.warnings})}
            whole = own | self.facts | {"seconds": round(time.perf_counter() - begin, 3)}
            yield make_line(result_name(name, request.network), merged, whole, results.provenance())

    def _extractors_of(self, by_network: dict[str, list[Request]]) -> dict[str, Extractor]:
        for network in by_network:
            if network not in self._extractors:
                self._extractors[network] = Extractor(self.plan.networks[network], self.batch_size)
        return {network: self._extractors[network] for network in by_network}

    def _references_of(self, by_network: dict[str, list[Request]]) -> dict[str, Measured]:
        """The reference as these networks see it, measured once; where any of their metrics needs it."""
        extractors, keep = self._extractors_of(by_network), _networks_with(by_network, "reference_features")
        for network in _networks_with(by_network, "reference"):
            if network in self._references:
                continue
            assert self.reference is not None
            total = 0 if isinstance(self.reference, Statistics) else self.reference.count
            with self._progress(f"reference, {network}", total) as progress:
                self._references[network] = measure_reference(
                    self.reference, extractors[network], network in keep, self.cache, progress.advance
                )
        return self._references

    def _progress(self, label: str, total: int) -> Progress:
        return Progress(total, label, "picture", quiet=self.quiet or total == 0, keep=False)

    def _sampler_facts(self, sampler: Sampler) -> Line:
        seeds = list(self.seeds) if sampler.prior_name else None
        return {"prior": sampler.prior_name, "temperature": sampler.temperature, "seeds": seeds}

    def _set_facts(self, measured: list[Measured], reference: Measured | None, request: Request) -> Line:
        assert request.network is not None
        network = self.plan.networks[request.network]
        hashes = [samples.sha256 for samples in measured]
        count, seconds = measured[0].count, sum(samples.seconds for samples in measured)
        described = {"id": reference.id, "count": reference.count, "sha256": reference.sha256} if reference else None
        return {
            "samples": {"id": measured[0].id, "count": count, "sha256": hashes[0] if len(hashes) == 1 else hashes},
            "reference": described,
            **network.describe(),
            "quantisation": QUANTISATION,
            "precision": PRECISION,
            "multiply_adds_a_picture": network.multiply_adds,
            "pictures_per_second": round((count or 0) * len(measured) / seconds, 2) if seconds else None,
            "warnings": sorted({*self.warnings, *_set_warnings(measured, reference, request)}),
        }


def _described(originals: Source) -> Line:
    return {"id": originals.id, "count": originals.count, "sha256": hash_source(originals)}


def _set_warnings(measured: list[Measured], reference: Measured | None, request: Request) -> Iterator[str]:
    """What the two sets, as sets, say of the number."""
    for part in [*measured, *([reference] if reference else [])]:
        yield from part.warnings
    if reference is not None and reference.sha256 is not None and reference.sha256 in [m.sha256 for m in measured]:
        yield f"{measured[0].id} and {reference.id} are the same pictures: the distance says nothing"
    counts = {"samples": measured[0].count or 0, "references": (reference.count if reference else None) or FEW_SAMPLES}
    for of_what, number in counts.items() if request.metric in FRECHET else ():
        if number < FEW_SAMPLES:
            few = f"{number} {of_what} are fewer than {FEW_SAMPLES}"
            yield f"{few}: the distance is biased upwards; compare equal counts only"


def _networks_with(by_network: dict[str, list[Request]], need: str) -> list[str]:
    """The networks of which some metric needs this, by the entry's attribute."""
    return [name for name, requests in by_network.items() if any(getattr(r.entry, need) for r in requests)]
