"""The jobs of one evaluation: measures each set once for each network and makes a line for every metric."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dfm import results
from dfm.evaluation.measure import Measured, measure
from dfm.evaluation.metrics import FEW_SAMPLES, METRICS, Job, Value, result_name
from dfm.evaluation.plan import Plan
from dfm.evaluation.progress import Progress
from dfm.evaluation.protocols import QUANTISATION
from dfm.evaluation.reconstruction import ReconstructionSource, quality
from dfm.evaluation.references import Statistics, hash_source, measure_reference
from dfm.evaluation.report import make_line, merge_repeats
from dfm.evaluation.sources import SampleSource, Source
from dfm.metrics.blas import single_threaded
from dfm.metrics.features import Extractor
from dfm.metrics.frechet import frechet_distance
from dfm.metrics.networks import WeightFiles

if TYPE_CHECKING:
    from dfm.priors.prior import Prior
    from dfm.sampling import RunData
    from dfm.training.runs import Run

Line = dict[str, Any]
PRECISION = "features float32 with the highest matmul precision, statistics float64"


@dataclass
class Sampler:
    """One way to get samples: `sources` gives them for each seed; a prior only where a run is sampled."""

    sources: Callable[[int], Source]
    prior_name: str | None = None
    prior: "Callable[[], Prior] | None" = None
    temperature: float | None = None


@dataclass
class Evaluation:
    """All that the jobs share."""

    plan: Plan
    reference: Source | Statistics | None
    files: WeightFiles
    seeds: Sequence[int]
    batch_size: int | None = None
    cache: Path | None = None
    data: "RunData | None" = None
    facts: dict[str, Any] = field(default_factory=dict)  # the same in every line
    warnings: Sequence[str] = ()  # likewise
    progress: Progress = field(default_factory=lambda: Progress(quiet=True))
    note: Callable[[str], None] = lambda line: None
    invert_steps: int = 300
    pictures: Path | None = None  # folder of grids
    _references: dict[str, Measured] = field(default_factory=dict)
    _extractors: dict[str, Extractor] = field(default_factory=dict)

    def extractor(self, network: str) -> Extractor:
        if network not in self._extractors:
            self._extractors[network] = Extractor(self.plan.networks[network], self.batch_size)
        return self._extractors[network]

    def reference_for(self, network: str) -> Measured:
        if network not in self._references:
            wanted = self.plan.by_network.get(network, [])
            keep = any(METRICS[metric].reference_features for metric in wanted)
            assert self.reference is not None
            total = 0 if isinstance(self.reference, Statistics) else self.reference.count
            with self.progress.bar(f"reference, {network}", total) as report:
                self._references[network] = measure_reference(
                    self.reference, self.extractor(network), keep, self.cache, report
                )
        return self._references[network]

    def sample_lines(self, sampler: Sampler) -> Iterator[Line]:
        """Every metric on samples, network by network."""
        for network, metrics in self.plan.by_network.items():
            begin = time.perf_counter()
            needs_reference = any(METRICS[metric].reference for metric in metrics)
            reference = self.reference_for(network) if needs_reference else None  # first: what is wrong with it shows
            keep = any(METRICS[metric].sample_features for metric in metrics)
            measured = []
            for seed in self.seeds:
                source = sampler.sources(seed)
                label = ", ".join(str(part) for part in (network, sampler.prior_name) if part)
                with self.progress.bar(f"samples, {label}", source.count) as report:
                    measured.append(measure(source, self.extractor(network), keep, report))
            for metric in metrics:
                own = reference if METRICS[metric].reference else None
                yield from self._metric_lines(metric, network, measured, own, sampler, begin)

    def _metric_lines(
        self,
        metric: str,
        network: str,
        measured: list[Measured],
        reference: Measured | None,
        sampler: Sampler,
        begin: float,
    ) -> Iterator[Line]:
        jobs = [
            Job(self.plan.networks[network], samples, reference, seed)
            for samples, seed in zip(measured, self.seeds, strict=True)
        ]
        # the products of kernels and neighbours are of two blocks of about a thousand vectors
        with single_threaded(unless_above=min(measured[0].count or 0, 1000) ** 2 * measured[0].moments.mean.size):
            values = [METRICS[metric].compute(job) for job in jobs]
        for name in values[0]:
            merged = merge_repeats([value[name] for value in values])
            facts = self._sampler_facts(sampler) | self._set_facts(measured, reference, network, metric)
            yield self._line(result_name(name, network), merged, facts, begin)

    def _sampler_facts(self, sampler: Sampler) -> Line:
        seeds = list(self.seeds) if sampler.prior_name else None
        return {"prior": sampler.prior_name, "temperature": sampler.temperature, "seeds": seeds}

    def _set_facts(self, measured: list[Measured], reference: Measured | None, network: str, metric: str) -> Line:
        hashes = [samples.sha256 for samples in measured]
        count, seconds = measured[0].count, sum(samples.seconds for samples in measured)
        parts = [*measured, reference] if reference else measured
        warnings = {warning for part in parts for warning in part.warnings} | set(self.warnings)
        counts = {"samples": count or 0, "references": (reference.count if reference else None) or FEW_SAMPLES}
        for of_what, number in counts.items() if metric in ("fid", "rfid", "fid_infinity") else ():
            if number < FEW_SAMPLES:
                few = f"{number} {of_what} are fewer than {FEW_SAMPLES}"
                warnings.add(f"{few}: the distance is biased upwards; compare equal counts only")
        described = {"id": reference.id, "count": reference.count, "sha256": reference.sha256} if reference else None
        return {
            "samples": {"id": measured[0].id, "count": count, "sha256": hashes[0] if len(hashes) == 1 else hashes},
            "reference": described,
            **self.plan.networks[network].describe(),
            "quantisation": QUANTISATION,
            "precision": PRECISION,
            "multiply_adds_a_picture": self.plan.networks[network].multiply_adds,
            "pictures_per_second": round((count or 0) * len(measured) / seconds, 2) if seconds else None,
            "warnings": sorted(warnings),
        }

    def _line(self, name: str, value: Value, facts: Line, begin: float) -> Line:
        whole = facts | self.facts | {"seconds": round(time.perf_counter() - begin, 3)}
        return make_line(name, value, whole, results.provenance())

    def reconstruction_lines(self) -> Iterator[Line]:
        """PSNR and its kin, then the distance of reconstructions: the floor under the distance of samples."""
        if not self.plan.needs_reconstructions:
            return
        assert self.data is not None and self.reference is not None and not isinstance(self.reference, Statistics)
        begin = time.perf_counter()
        originals = self.reference
        with self.progress.bar("reconstructions", originals.count) as report:
            source = ReconstructionSource(self.data, originals, self.invert_steps, report)
            lpips = self._lpips() if "lpips" in self.plan.reconstruction else None
            values = quality(source, self.plan.reconstruction, lpips) if self.plan.reconstruction else {}
        facts: Line = {
            "latents_by": source.how,
            "samples": {"id": source.id, "count": source.count, "sha256": None},
            "reference": {"id": originals.id, "count": originals.count, "sha256": hash_source(originals)},
            "quantisation": QUANTISATION,
            "warnings": [*source.warnings, *self.warnings],
        }
        if source.how == "inversion":
            facts["invert_steps"] = self.invert_steps
        for name in self.plan.reconstruction:
            yield self._line(name, values[name], facts, begin)
        for network in self.plan.rfid_networks:
            yield self._rfid_line(network, source, facts, time.perf_counter())

    def _rfid_line(self, network: str, source: ReconstructionSource, facts: Line, begin: float) -> Line:
        with self.progress.bar(f"reconstructions, {network}", source.count) as report:
            measured = measure(source, self.extractor(network), False, report)
        reference = self.reference_for(network)
        result = frechet_distance(reference.moments, measured.moments)
        details = {
            "mean_term": result.mean_term,
            "covariance_term": result.covariance_term,
            "most_negative_eigenvalue": result.most_negative_eigenvalue,
        }
        own = facts | self._set_facts([measured], reference, network, "rfid")
        return self._line(result_name("rfid", network), Value(result.value, details=details), own, begin)

    def _lpips(self) -> Any:
        from dfm.metrics.lpips import load_lpips

        return load_lpips(self.files.lpips, self.files.lpips_sha256)

    def honesty_lines(self, sampler: Sampler) -> Iterator[Line]:
        """Nearest training pictures of samples, and latents against the prior."""
        from dfm.evaluation import honesty

        if not self.plan.honesty:
            return
        assert self.data is not None and sampler.prior is not None and self.pictures is not None
        begin, seed = time.perf_counter(), self.seeds[0]
        values: dict[str, Value] = {}
        if "memorisation" in self.plan.honesty:
            temperature = 1.0 if sampler.temperature is None else sampler.temperature
            source = SampleSource(self.data.run, sampler.prior, seed, honesty.COMPARED, temperature)
            samples = np.concatenate(list(source.batches(0, source.count)))
            path = self.pictures / f"neighbours-{sampler.prior_name}-seed{seed}.png"
            values |= honesty.memorisation(self.data, samples, path, self.note)
        if "latents" in self.plan.honesty:
            values |= honesty.latents(self.data, sampler.prior(), seed)
        if "smoothness" in self.plan.honesty:
            values |= honesty.smoothness(self.data, seed)
        for name, value in values.items():
            yield self._line(name, value, self._sampler_facts(sampler) | {"warnings": []}, begin)


def run_facts(run: "Run") -> Line:
    """Which model a line speaks of: workdir, step, config, and a hash of parameters, latents and statistics."""
    return {
        "run": {
            "workdir": Path(run.workdir).resolve().name,
            "step": int(run.step),
            "params_sha256": run.sha256,
            "config": run.config.to_dict(),
        }
    }
