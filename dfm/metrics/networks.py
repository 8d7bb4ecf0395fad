"""Feature networks by name. Their weights come from files; what is missing says so in one line, before any work."""

from collections.abc import Callable
from functools import partial
from typing import Any

from dfm import registry
from dfm.array_files import hash_arrays
from dfm.errors import UserError
from dfm.metrics.features import FeatureNetwork
from dfm.metrics.weight_files import WeightFiles


def load_inception(files: WeightFiles) -> FeatureNetwork:
    from dfm.metrics import inception
    from dfm.metrics.inception_weights import load_weights

    weights = load_weights(files.inception, files.inception_sha256)
    net, head = inception.Inception(), weights.head
    return FeatureNetwork(
        name=weights.name,
        distance="fid",
        size=inception.FEATURES,
        params=weights.params,
        apply=lambda params, pictures: net.apply(params, inception.prepare(pictures)),  # type: ignore[arg-type, return-value]
        sha256=weights.sha256,
        resize=inception.RESIZE_ID,
        scale=inception.SCALE_ID,
        logits=None if head is None else lambda features: features @ head,
        head_sha256=weights.head_sha256,
        multiply_adds=inception.MULTIPLY_ADDS,
    )


def load_classifier(dataset: str, files: WeightFiles) -> FeatureNetwork:
    from dfm.metrics import classifier

    params, arrays = classifier.load_params(dataset)
    side = classifier.SIDES[dataset]
    net, head = classifier.Classifier(side), params["params"]["head"]

    def apply(params: Any, pictures: Any) -> Any:
        if pictures.shape[1:3] != (side, side):
            height, width = pictures.shape[1:3]
            raise UserError(f"fd-{dataset} is for pictures of {side}x{side} pixels, not {height}x{width}")
        return net.apply(params, pictures, method=classifier.Classifier.features)

    return FeatureNetwork(
        name=f"{dataset}-classifier-v1",
        distance=f"fd-{dataset}",
        size=classifier.FEATURES,
        params=params,
        apply=apply,
        sha256=hash_arrays(arrays),
        resize="none",
        scale="x / 255",
        logits=lambda features: features @ head["kernel"] + head["bias"],
        head_sha256=hash_arrays(arrays),
        side=side,
    )


def load_lpips_features(files: WeightFiles) -> FeatureNetwork:
    from dfm.metrics.lpips import NETS, load_lpips

    lpips = load_lpips(files.lpips, files.lpips_sha256)
    size = sum(layer.outputs for layer in NETS[lpips.net] if layer.tap)
    return FeatureNetwork(
        name=lpips.name,
        distance="fd-lpips",
        size=size,
        params=lpips.params,
        apply=lambda params, pictures: lpips.features(pictures),
        sha256=lpips.sha256,
        resize="bilinear to 64 below 32 pixels",
        scale="LPIPS v0.1",
    )


NETWORKS: dict[str, Callable[[WeightFiles], FeatureNetwork]] = {
    "inception": load_inception,
    "digits": partial(load_classifier, "digits"),
    "mnist": partial(load_classifier, "mnist"),
    "lpips": load_lpips_features,
}


def find(name: str) -> Callable[[WeightFiles], FeatureNetwork]:
    return registry.find("feature network", name, NETWORKS)


def load(name: str, files: WeightFiles | None = None) -> FeatureNetwork:
    """A feature network with its weights; UserError where the name is unknown or the weights are missing."""
    return find(name)(files or WeightFiles())
