"""Where the real weights are: a folder given by DFM_TEST_DATA, or shared/data beside the repository."""

import os
from pathlib import Path

import pytest

FOLDER = Path(os.environ.get("DFM_TEST_DATA") or Path(__file__).parents[3] / "shared" / "data")
INCEPTION = FOLDER / "fid_inception" / "inception_fid_2015-12-05_fp16.npz"
TEST_VECTORS = FOLDER / "fid_inception" / "test_vectors.npz"
LPIPS = FOLDER / "lpips" / "alexnet_lpips_v0.1_fp32.npz"
LPIPS_PICTURES = FOLDER / "lpips" / "example_images"
CIFAR10 = FOLDER / "cifar10"

needs_inception = pytest.mark.skipif(
    not INCEPTION.exists(), reason=f"no real Inception weights at {INCEPTION}; DFM_TEST_DATA names another folder"
)
needs_lpips = pytest.mark.skipif(
    not LPIPS.exists(), reason=f"no real LPIPS weights at {LPIPS}; DFM_TEST_DATA names another folder"
)


def cifar10_pictures(split: str, indices):
    """These pictures of CIFAR-10 from its lossless mosaics; only the files that are needed are decoded."""
    import numpy as np
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = None
    found = {}
    for i in sorted({int(index) // 10_000 for index in indices}):
        name = f"data_batch_{i + 1}.webp" if split == "train" else "test_batch.webp"
        with Image.open(CIFAR10 / name) as image:
            found[i] = np.asarray(image.convert("RGB"))
    return np.stack([_tile(found[int(index) // 10_000], int(index) % 10_000) for index in indices])


def _tile(mosaic, index):
    columns = mosaic.shape[1] // 32
    row, column = divmod(index, columns)
    return mosaic[32 * row : 32 * row + 32, 32 * column : 32 * column + 32]
