"""Metrics by name, and the words of --metrics: names, names with a network (fd-digits), groups of names."""

from collections.abc import Sequence
from dataclasses import dataclass

from dfm.errors import UserError
from dfm.evaluation.code_metrics import CODE_METRICS
from dfm.evaluation.decoder_metrics import DECODER_METRICS
from dfm.evaluation.likelihood_metrics import LIKELIHOOD_METRICS
from dfm.evaluation.metric import Metric
from dfm.evaluation.model_metrics import MODEL_METRICS
from dfm.evaluation.reconstruction_metrics import RECONSTRUCTION_METRICS
from dfm.evaluation.sample_metrics import SAMPLE_METRICS
from dfm.metrics.networks import NETWORKS
from dfm.registry import nearest

METRICS: dict[str, Metric] = {
    **SAMPLE_METRICS,
    **RECONSTRUCTION_METRICS,
    **MODEL_METRICS,
    **LIKELIHOOD_METRICS,
    **DECODER_METRICS,
    **CODE_METRICS,
}
_GROUPED = dict.fromkeys(group for metric in METRICS.values() for group in metric.groups)
GROUPS = {group: tuple(name for name in METRICS if group in METRICS[name].groups) for group in _GROUPED}
OLD_GROUPS = {"honesty": "diagnostics"}  # words of earlier versions

# With a network other than FID's Inception the famous names are not used
OTHER_NAMES = {"fid": "fd", "rfid": "rfd", "fid_infinity": "fd_infinity", "kid": "kd", "is": "classifier_score"}


# Options that say where the weights of a network are; others come with the package
WEIGHTS = {
    "inception": frozenset({"inception_weights", "inception_sha256"}),
    "lpips": frozenset({"lpips_weights", "lpips_sha256"}),
}


@dataclass(frozen=True)
class Request:
    """One metric as it was asked for: its name among ours, and the network whose features it compares."""

    name: str
    metric: str
    network: str | None

    @property
    def entry(self) -> Metric:
        return METRICS[self.metric]

    @property
    def reads(self) -> frozenset[str]:
        """Options that change its number or are needed for it, see `Metric.reads`."""
        return self.entry.reads | WEIGHTS.get(self.network or "", frozenset())


def result_name(metric: str, network: str | None) -> str:
    """`fid` for FID's Inception, `fd-digits` for the digits' classifier."""
    return metric if network in ("inception", None) else f"{OTHER_NAMES.get(metric, metric)}-{network}"


def known_names() -> list[str]:
    others = [f"{name}-{network}" for network in NETWORKS if network != "inception" for name in ("fd", "kd")]
    return [*METRICS, *GROUPS, *others]


def parse_metrics(words: str | Sequence[str]) -> list[Request]:
    """`fid,kid,fd-digits,reconstruction`, or these words; UserError with the nearest name for an unknown one."""
    if isinstance(words, str):
        words = words.split(",")
    requests: list[Request] = []
    for word in [word.strip() for word in words if word.strip()]:
        for name in GROUPS.get(OLD_GROUPS.get(word, word), (word,)):
            request = _parse(name)
            if request not in requests:
                requests.append(request)
    if not requests:
        raise UserError(f"no metric is named; known are {', '.join(known_names())}")
    return requests


def _parse(word: str) -> Request:
    ours = {other: name for name, other in OTHER_NAMES.items()}
    base, dash, network = word.partition("-")
    metric = ours.get(base, base)
    if metric in METRICS and METRICS[metric].features and dash and network in NETWORKS:
        return Request(result_name(metric, network), metric, network)
    if word in METRICS:
        return Request(word, word, "inception" if METRICS[word].features else None)
    raise UserError(f"unknown metric '{word}'{nearest(word, known_names())}")
