"""What is to be computed, and why some of it cannot be: decided before any work."""

from dataclasses import dataclass, field

from dfm.errors import UserError, counted
from dfm.evaluation.metric import RECONSTRUCTIONS, SAMPLES, PairMeasure
from dfm.evaluation.references import Statistics
from dfm.evaluation.registry import Request
from dfm.evaluation.sources import Shape, Source
from dfm.metrics import networks
from dfm.metrics.features import FeatureNetwork
from dfm.metrics.weight_files import WeightFiles


@dataclass(frozen=True)
class Resources:
    """What there is to work with.

    Attributes:
        samples, model: whether there are samples; whether there is a model beside them, or in their place.
        count: of the samples, 0 without any.
        shape: of samples or reconstructions.
        latents: whether the pictures of the model's training have latents.
        why_no_likelihood: of a model that bounds no log p(x).
        why_no_reconstructions: of the reference, where the model is beside it and cannot make them.
    """

    samples: bool
    model: bool
    reference: Source | Statistics | None
    count: int
    shape: Shape
    files: WeightFiles = field(default_factory=WeightFiles)
    latents: bool = True
    why_no_likelihood: str | None = None
    why_no_reconstructions: str | None = None


@dataclass
class Plan:
    """The requests that can be met, with the networks and comparisons of pairs that they need, by name."""

    requests: list[Request]
    networks: dict[str, FeatureNetwork] = field(default_factory=dict)
    pair_measures: dict[str, PairMeasure] = field(default_factory=dict)

    def of(self, subject: str) -> list[Request]:
        return [request for request in self.requests if request.entry.of == subject]

    def networks_of(self, subject: str) -> dict[str, list[Request]]:
        """The requests on this subject that compare features, by network."""
        found: dict[str, list[Request]] = {}
        for request in self.of(subject):
            if request.network is not None:
                found.setdefault(request.network, []).append(request)
        return found


def make_plan(requests: list[Request], resources: Resources) -> Plan:
    """The plan for these requests; where one cannot be met, UserError with the reason and the names that remain."""
    planner, reasons = _Planner(resources), {}
    for request in requests:
        if reason := planner.obstacle(request):
            reasons[request.name] = reason
    if reasons:
        remaining = [request.name for request in requests if request.name not in reasons]
        grouped: dict[str, list[str]] = {}
        for name, reason in reasons.items():
            grouped.setdefault(reason, []).append(name)
        said = "; ".join(f"{', '.join(names)}: {reason}" for reason, names in grouped.items())
        raise UserError(f"{said}. These remain: {','.join(remaining) or 'none'}")
    return Plan(requests, planner.networks, planner.pair_measures)


def too_few(name: str, count: int, smallest: int) -> str | None:
    if count >= smallest:
        return None
    return f"{name}: {counted(count, 'picture')}, and at least {smallest} are needed"


class _Planner:
    """Loads each network once, or knows why not."""

    def __init__(self, resources: Resources):
        self.resources = resources
        self.networks: dict[str, FeatureNetwork] = {}
        self.pair_measures: dict[str, PairMeasure] = {}
        self._missing: dict[str, str] = {}

    def obstacle(self, request: Request) -> str | None:
        checks = (self._subject, self._reference, self._counts, self._network, self._statistics, self._pairs)
        return next((reason for check in checks if (reason := check(request))), None)

    def _subject(self, request: Request) -> str | None:
        entry, resources = request.entry, self.resources
        if entry.of != SAMPLES and not resources.model:
            return "needs a run or an autoencoder"
        if (entry.of == SAMPLES or entry.draws) and not resources.samples:
            return "an autoencoder alone makes reconstructions and no samples"
        if entry.latents and not resources.latents:
            return "the pictures of this training have no latents (no encoder, no table)"
        if entry.likelihood and resources.why_no_likelihood:
            return resources.why_no_likelihood
        return resources.why_no_reconstructions if entry.of == RECONSTRUCTIONS else None

    def _reference(self, request: Request) -> str | None:
        entry, reference = request.entry, self.resources.reference
        if not entry.reference:
            return None
        if reference is None:
            return "needs a reference"
        if isinstance(reference, Statistics):
            if entry.of == RECONSTRUCTIONS:
                return f"needs pictures to reconstruct, and {reference.path} holds statistics"
            if request.network is None:
                return f"needs the references' pictures, and {reference.path} holds statistics"
            if entry.reference_features and not reference.has_features:
                return f"needs features of the references, and {reference.path} holds only their moments"
        return None

    def _counts(self, request: Request) -> str | None:
        entry, reference = request.entry, self.resources.reference
        if entry.of == SAMPLES and (reason := too_few("samples", self.resources.count, entry.smallest)):
            return reason
        if not entry.reference or reference is None:
            return None
        if isinstance(reference, Statistics):
            count = reference.feature_count if entry.reference_features else reference.count
            name = reference.path
        else:
            count, name = reference.count, reference.id
        return None if count is None else too_few(name, count, entry.smallest)

    def _network(self, request: Request) -> str | None:
        name = request.network
        if name is None:
            return None
        if name not in self.networks and name not in self._missing:
            try:
                self.networks[name] = self._load(name)
            except UserError as error:
                self._missing[name] = str(error)
        if name in self._missing:
            return self._missing[name]
        if request.entry.logits and self.networks[name].logits is None:
            return "these weights lack the 1008-way head (python -m dfm.metrics.convert_inception keeps it)"
        return None

    def _load(self, name: str) -> FeatureNetwork:
        network, (height, width, _) = networks.load(name, self.resources.files), self.resources.shape
        if network.side is not None and (height, width) != (network.side, network.side):
            raise UserError(f"is for pictures of {network.side}x{network.side} pixels, not {height}x{width}")
        return network

    def _statistics(self, request: Request) -> str | None:
        reference = self.resources.reference
        if request.network is None or not request.entry.reference or not isinstance(reference, Statistics):
            return None
        try:
            reference.measured(self.networks[request.network])
        except UserError as error:
            return str(error)
        return None

    def _pairs(self, request: Request) -> str | None:
        if request.entry.pairs is None:
            return None
        try:
            self.pair_measures[request.name] = request.entry.pairs(self.resources.files, self.resources.shape)
        except UserError as error:
            return str(error)
        return None
