"""What is to be computed, and why some of it cannot be: decided before any work."""

from dataclasses import dataclass, field

from dfm.errors import UserError
from dfm.evaluation.metrics import METRICS, OTHER_NAMES, result_name
from dfm.evaluation.references import Statistics
from dfm.evaluation.sources import Shape, Source
from dfm.metrics import networks
from dfm.metrics.features import FeatureNetwork
from dfm.registry import nearest

RECONSTRUCTION = ("psnr", "ssim", "ms_ssim", "lpips", "rfid")
HONESTY = ("memorisation", "latents", "smoothness")
GROUPS = {"reconstruction": RECONSTRUCTION, "honesty": HONESTY}


@dataclass
class Plan:
    """Metrics on samples by network; metrics on reconstructions; rfid by network; and what looks at the model."""

    by_network: dict[str, list[str]] = field(default_factory=dict)
    reconstruction: list[str] = field(default_factory=list)
    rfid_networks: list[str] = field(default_factory=list)
    honesty: list[str] = field(default_factory=list)
    networks: dict[str, FeatureNetwork] = field(default_factory=dict)

    @property
    def needs_reconstructions(self) -> bool:
        return bool(self.reconstruction or self.rfid_networks)


@dataclass(frozen=True)
class Wish:
    """One metric as it was asked for: its name among ours, and the network whose features it compares."""

    name: str
    metric: str
    network: str | None


@dataclass(frozen=True)
class Means:
    """What there is to work with; count and shape: of the samples."""

    workdir: bool
    reference: Source | Statistics | None
    count: int
    shape: Shape
    files: networks.WeightFiles


def parse_metrics(text: str) -> list[Wish]:
    """`fid,kid,fd-digits,reconstruction`; UserError with the nearest name for an unknown one."""
    wishes: list[Wish] = []
    for word in [word.strip() for word in text.split(",") if word.strip()]:
        for name in GROUPS.get(word, (word,)):
            wish = _parse(name)
            if wish not in wishes:
                wishes.append(wish)
    if not wishes:
        raise UserError(f"--metrics names none; known are {', '.join(known_names())}")
    return wishes


def known_names() -> list[str]:
    others = [f"{name}-{network}" for network in ("digits", "mnist", "lpips") for name in ("fd", "kd")]
    return [*METRICS, *RECONSTRUCTION, *HONESTY, *GROUPS, *others]


def _parse(word: str) -> Wish:
    ours = {other: name for name, other in OTHER_NAMES.items()}
    base, dash, network = word.partition("-")
    metric = ours.get(base, base)
    known = metric in METRICS or metric == "rfid"
    if dash and known and network in networks.NETWORKS:
        return Wish(result_name(metric, network), metric, network)
    if not dash and base not in ours and (known or base in RECONSTRUCTION or base in HONESTY):
        return Wish(word, metric, "inception" if known else None)
    raise UserError(f"unknown metric '{word}'{nearest(word, known_names())}")


def make_plan(wishes: list[Wish], means: Means) -> Plan:
    """The plan for these wishes; where one cannot be had, UserError with the reason and the names that remain."""
    plan, reasons = Plan(), {}
    loader = _NetworkLoader(means)
    for wish in wishes:
        reason = _first_obstacle(wish, means, loader)
        if reason:
            reasons[wish.name] = reason
        elif wish.metric in METRICS and wish.network:
            plan.by_network.setdefault(wish.network, []).append(wish.metric)
        elif wish.metric == "rfid" and wish.network:
            plan.rfid_networks.append(wish.network)
        elif wish.metric in HONESTY:
            plan.honesty.append(wish.metric)
        else:
            plan.reconstruction.append(wish.metric)
    if reasons:
        remaining = [wish.name for wish in wishes if wish.name not in reasons]
        said = "; ".join(f"{', '.join(names)}: {reason}" for reason, names in _by_reason(reasons).items())
        raise UserError(f"{said}. These remain: {','.join(remaining) or 'none'}")
    plan.networks = loader.loaded
    return plan


def _by_reason(reasons: dict[str, str]) -> dict[str, list[str]]:
    grouped: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        grouped.setdefault(reason, []).append(name)
    return grouped


class _NetworkLoader:
    """Each network once, or the reason why not."""

    def __init__(self, means: Means):
        self.means = means
        self.loaded: dict[str, FeatureNetwork] = {}
        self.obstacles: dict[str, str] = {}

    def obstacle(self, name: str) -> str | None:
        if name not in self.loaded and name not in self.obstacles:
            try:
                network = networks.load(name, self.means.files)
                shape = self.means.shape
                if network.side is not None and shape[:2] != (network.side, network.side):
                    wanted, found = f"{network.side}x{network.side}", f"{shape[0]}x{shape[1]}"
                    raise UserError(f"is for pictures of {wanted} pixels, not {found}")
                self.loaded[name] = network
            except UserError as error:
                self.obstacles[name] = str(error)
        return self.obstacles.get(name)


def _first_obstacle(wish: Wish, means: Means, loader: _NetworkLoader) -> str | None:
    for check in (_model_obstacle, _reference_obstacle, _count_obstacle):
        if reason := check(wish, means):
            return reason
    if wish.network is not None:
        return loader.obstacle(wish.network) or _head_obstacle(wish, loader)
    return _lpips_obstacle(means) if wish.metric == "lpips" else None


def _model_obstacle(wish: Wish, means: Means) -> str | None:
    on_model = wish.metric in RECONSTRUCTION or wish.metric in HONESTY
    if on_model and not means.workdir:
        return "needs a model (--workdir or --vae)"
    return None


def _count_obstacle(wish: Wish, means: Means) -> str | None:
    if wish.metric not in METRICS:
        return None
    smallest, reference = METRICS[wish.metric].smallest, means.reference
    counts = [("samples", means.count)]
    if METRICS[wish.metric].reference and reference is not None and not isinstance(reference, Statistics):
        counts.append((reference.id, reference.count))
    for name, count in counts:
        if count < smallest:
            pictures = "picture" if count == 1 else "pictures"
            return f"{name}: {count} {pictures}, and at least {smallest} are needed"
    return None


def _reference_obstacle(wish: Wish, means: Means) -> str | None:
    if wish.metric in HONESTY or (wish.metric in METRICS and not METRICS[wish.metric].reference):
        return None
    if means.reference is None:
        return "needs --reference"
    if isinstance(means.reference, Statistics):
        if wish.metric in RECONSTRUCTION:
            return f"needs pictures to reconstruct, and {means.reference.path} holds statistics"
        if METRICS[wish.metric].reference_features and not means.reference.has_features:
            return f"needs features of the references, and {means.reference.path} holds only their moments"
    return None


def _head_obstacle(wish: Wish, loader: _NetworkLoader) -> str | None:
    if wish.metric in METRICS and METRICS[wish.metric].logits and wish.network in loader.loaded:
        if loader.loaded[wish.network].logits is None:
            return "these weights lack the 1008-way head (python -m dfm.metrics.convert_inception keeps it)"
    return None


def _lpips_obstacle(means: Means) -> str | None:
    from dfm.metrics.lpips import load_lpips

    try:
        load_lpips(means.files.lpips, means.files.lpips_sha256)
    except UserError as error:
        return str(error)
    return None
