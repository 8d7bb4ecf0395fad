"""Where the weights of feature networks are, and where they come from; read before JAX is loaded."""

from dataclasses import dataclass

INCEPTION_SOURCE = (
    "pt_inception-2015-12-05-6726825d.pth of the project pytorch-fid (its release fid_weights), or "
    "classify_image_graph_def.pb of TensorFlow's inception-2015-12-05.tgz, made into an .npz by "
    "python -m dfm.metrics.convert_inception FILE inception.npz"
)


@dataclass(frozen=True)
class WeightFiles:
    """Files, and the hashes expected of those that are not pinned in this repository."""

    inception: str | None = None  # None: the environment variable's
    inception_sha256: str | None = None
    lpips: str | None = None
    lpips_sha256: str | None = None
