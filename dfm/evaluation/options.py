"""What every evaluation shares: how it is done, the reference that it is against, and what results say of both."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dfm.errors import UserError
from dfm.evaluation import protocols
from dfm.evaluation.given import Given, as_source, check_count
from dfm.evaluation.metric import SAMPLES
from dfm.evaluation.models import run_facts
from dfm.evaluation.protocols import Protocol
from dfm.evaluation.references import Statistics, open_reference
from dfm.evaluation.registry import Request
from dfm.evaluation.report import Line
from dfm.evaluation.sources import DatasetSource, Source, Subset, Transformed, names_dataset
from dfm.metrics.weight_files import WeightFiles

if TYPE_CHECKING:
    from dfm.sampling import RunData

Reference = Given | Statistics | None


@dataclass(frozen=True)
class Options:
    """How to evaluate, whatever is evaluated.

    Attributes:
        protocol: a name of `protocols.PROTOCOLS`.
        num_references: pictures of the reference, a fixed random subset; None: all.
        label: one class of a reference that is a data set; None: the run's, where it has one; -1: all.
        size: of a reference folder: shorter sides to so many pixels, then the centre.
        data_dir: prepared data; None: the usual place.
        batch_size: pictures at once in a feature network; changes no number.
        cache: whether features of data sets are kept under the data directory.
        weights: files of feature networks and LPIPS.
        command: for the lines: what was called.
        note, quiet: for people who wait: what is said to them, and no progress bars.
    """

    protocol: str | None = None
    num_references: int | None = None
    label: int | None = None
    size: int | None = None
    data_dir: str | None = None
    batch_size: int | None = None
    cache: bool = True
    weights: WeightFiles = field(default_factory=WeightFiles)
    command: str | None = None
    note: Callable[[str], None] = lambda line: None
    quiet: bool = True


def protocol_of(options: Options) -> Protocol:
    return protocols.find(options.protocol) if options.protocol else Protocol()


def fixed_count(what: str, wanted: int | None, fixed: int | None, options: Options) -> int | None:
    """The count of samples or references that was asked for, or the protocol's; UserError where they differ."""
    check_count(what, wanted)
    if wanted is not None and fixed is not None and wanted != fixed:
        raise UserError(f"the protocol {options.protocol} fixes {fixed:,} {what}; leave their number out")
    return fixed if wanted is None else wanted


def open_given_reference(
    given: Reference, options: Options, protocol: Protocol, trained_label: int = -1
) -> Source | Statistics | None:
    """The reference, its class where the run has one, its subset and what the protocol does to it."""
    reference: Source | Statistics | None
    if given is None or isinstance(given, Statistics):
        reference = given
    elif isinstance(given, str | Path):
        reference = _named_reference(str(given), options, trained_label)
    else:
        reference = as_source(given, "reference")
    count = fixed_count("references", options.num_references, protocol.references, options)
    if reference is None:
        return None
    if isinstance(reference, Statistics):
        if options.num_references or protocol.change_references:
            what = f"a number of references and {options.protocol} need pictures"
            raise UserError(f"{reference.path}: holds statistics; {what}")
        return reference
    if count is not None and count != reference.count:
        reference = Subset(reference, count)
    if protocol.change_references:
        reference = Transformed(reference, protocol.change_references, reference.id)
    return reference


def _named_reference(spec: str, options: Options, trained_label: int) -> Source | Statistics:
    """By name; of a data set, the class of the run where it has one."""
    label = options.label
    if label is None and trained_label != -1 and names_dataset(spec):
        label = trained_label
    return open_reference(spec, options.data_dir, label, options.size)


def changed_samples(source: Source, protocol: Protocol) -> Source:
    return Transformed(source, protocol.change_samples, source.id) if protocol.change_samples else source


def check_protocol(
    requests: list[Request], reference: Source | Statistics | None, protocol: Protocol, options: Options
) -> None:
    """A legacy protocol is a whole: its split, and nothing but metrics on samples."""
    if protocol.change_samples and any(request.entry.of != SAMPLES for request in requests):
        raise UserError(f"the protocol {options.protocol} is for metrics on samples only")
    inner = _innermost(reference)
    if protocol.reference_split and isinstance(inner, DatasetSource):
        if inner.dataset.split != protocol.reference_split:
            wanted = f"{inner.dataset.name}:{protocol.reference_split}"
            raise UserError(f"the protocol {options.protocol} is against {wanted}, not {inner.id}")


def _innermost(reference: Any) -> Any:
    """The source behind subsets and transformations."""
    while isinstance(reference, Subset | Transformed):
        reference = reference.source
    return reference


def size_warnings(samples: Source, reference: Source | Statistics | None) -> list[str]:
    """Different sizes are legal, since the network resizes both, and seldom meant."""
    if reference is None or isinstance(reference, Statistics) or samples.shape[:2] == reference.shape[:2]:
        return []
    found = [f"{source.id} are {source.shape[0]}x{source.shape[1]}" for source in (samples, reference)]
    return [f"sizes differ: {found[0]}, {found[1]}"]


def training_warnings(data: "RunData | None", reference: Source | Statistics | None) -> list[str]:
    """A test split that was trained on tests nothing."""
    inner = _innermost(reference)
    if data is None or not isinstance(inner, DatasetSource) or not data.test_was_trained_on:
        return []
    trained = data.run.config["dataset"]
    if inner.dataset.name != trained["name"] or "test" not in inner.dataset.split:
        return []
    return [f"the run was trained on {trained['name']}:{trained['split']}: this is no test number"]


def cache_folder(options: Options) -> Path | None:
    from dfm.data.datasets import default_data_dir

    if not options.cache:
        return None
    return (Path(options.data_dir).expanduser() if options.data_dir else default_data_dir()) / "evaluation"


def common_facts(options: Options, protocol: Protocol, data: "RunData | None") -> Line:
    facts: Line = {"protocol": options.protocol or "custom", "command": options.command}
    if protocol.note:
        facts["protocol_note"] = protocol.note
    return facts | (run_facts(data.run) if data else {})
