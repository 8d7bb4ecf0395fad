"""The FID Inception in PyTorch eager, written plainly: convolution, batch norm, ReLU, no folding."""

import numpy as np

from dfm.metrics import inception
from dfm.metrics.inception_weights import convolution_shapes

EPSILON = 1e-3
STEM_STRIDES = {"Conv2d_1a_3x3": 2}
UNPADDED = ("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_4a_3x3")


def random_arrays(seed: int) -> dict[str, np.ndarray]:
    """Weights of a net at its start (He), with batch norms that are not trivial, by canonical name."""
    rng = np.random.default_rng(seed)
    arrays = {}
    for name, shape in convolution_shapes().items():
        deviation = np.sqrt(2 / np.prod(shape[:3]))
        arrays[f"{name}.kernel"] = rng.normal(0, deviation, shape).astype(np.float32)
        arrays[f"{name}.beta"] = rng.normal(0, 0.1, shape[-1]).astype(np.float32)
        arrays[f"{name}.mean"] = rng.normal(0, 0.1, shape[-1]).astype(np.float32)
        arrays[f"{name}.var"] = rng.uniform(0.5, 1.5, shape[-1]).astype(np.float32)
    return arrays


class TorchInception:
    """The FID Inception in PyTorch eager, batch norms apart from convolutions; NumPy in, NumPy out."""

    def __init__(self, arrays: dict[str, np.ndarray], channels_last: bool = False):
        import torch

        self.torch, self.layout = torch, torch.channels_last if channels_last else torch.contiguous_format
        self.arrays = {}
        for name, array in arrays.items():
            array = np.ascontiguousarray(array, np.float32)
            if name.endswith(".kernel"):
                tensor = torch.from_numpy(array).permute(3, 2, 0, 1).contiguous(memory_format=self.layout)
            else:
                tensor = torch.from_numpy(array)
            self.arrays[name] = tensor

    def __call__(self, pictures: np.ndarray) -> np.ndarray:
        with self.torch.inference_mode():
            x = self.torch.from_numpy(pictures).permute(0, 3, 1, 2).float()
            x = ((self.resize(x) - 128) / 128).contiguous(memory_format=self.layout)
            return self.features(x).numpy()

    def resize(self, x):
        """TensorFlow 1's bilinear resize."""
        for axis in (3, 2):
            size = x.shape[axis]
            position = np.arange(inception.INPUT_SIZE, dtype=np.float32) * np.float32(size / inception.INPUT_SIZE)
            below = position.astype(np.int64)
            above = np.minimum(below + 1, size - 1)
            shape = [-1 if i == axis else 1 for i in range(4)]
            fraction = self.torch.from_numpy(position - below.astype(np.float32)).reshape(shape)
            left, right = (x.index_select(axis, self.torch.from_numpy(rows)) for rows in (below, above))
            x = left + (right - left) * fraction
        return x

    def convolve(self, x, name: str, stride: int = 1, padded: bool = True):
        functional = self.torch.nn.functional
        kernel, beta, mean, var = (self.arrays[f"{name}.{part}"] for part in ("kernel", "beta", "mean", "var"))
        padding = (kernel.shape[2] // 2, kernel.shape[3] // 2) if padded else 0
        y = functional.conv2d(x, kernel, stride=stride, padding=padding)
        return functional.relu(functional.batch_norm(y, mean, var, None, beta, eps=EPSILON))

    def chain(self, x, *names: str):
        for name in names:
            x = self.convolve(x, name)
        return x

    def features(self, x):
        functional, cat = self.torch.nn.functional, self.torch.cat
        for name in ("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3"):
            x = self.convolve(x, name, STEM_STRIDES.get(name, 1), name not in UNPADDED)
        x = self.chain(functional.max_pool2d(x, 3, 2), "Conv2d_3b_1x1")
        x = functional.max_pool2d(self.convolve(x, "Conv2d_4a_3x3", padded=False), 3, 2)
        for block in ("5b", "5c", "5d"):
            x = self.block_a(x, f"Mixed_{block}.branch")
        b = "Mixed_6a.branch"
        left = self.convolve(x, f"{b}3x3", 2, False)
        right = self.convolve(self.chain(x, f"{b}3x3dbl_1", f"{b}3x3dbl_2"), f"{b}3x3dbl_3", 2, False)
        x = cat([left, right, functional.max_pool2d(x, 3, 2)], 1)
        for block in ("6b", "6c", "6d", "6e"):
            x = self.block_c(x, f"Mixed_{block}.branch")
        b = "Mixed_7a.branch"
        left = self.convolve(self.chain(x, f"{b}3x3_1"), f"{b}3x3_2", 2, False)
        right = self.chain(x, f"{b}7x7x3_1", f"{b}7x7x3_2", f"{b}7x7x3_3")
        right = self.convolve(right, f"{b}7x7x3_4", 2, False)
        x = cat([left, right, functional.max_pool2d(x, 3, 2)], 1)
        x = self.block_e(x, "Mixed_7b.branch", self.average)
        x = self.block_e(x, "Mixed_7c.branch", lambda x: functional.max_pool2d(x, 3, 1, 1))
        return x.mean((2, 3))

    def average(self, x):
        return self.torch.nn.functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)

    def block_a(self, x, b: str):
        return self.torch.cat(
            [
                self.chain(x, f"{b}1x1"),
                self.chain(x, f"{b}5x5_1", f"{b}5x5_2"),
                self.chain(x, f"{b}3x3dbl_1", f"{b}3x3dbl_2", f"{b}3x3dbl_3"),
                self.chain(self.average(x), f"{b}_pool"),
            ],
            1,
        )

    def block_c(self, x, b: str):
        return self.torch.cat(
            [
                self.chain(x, f"{b}1x1"),
                self.chain(x, *(f"{b}7x7_{i}" for i in (1, 2, 3))),
                self.chain(x, *(f"{b}7x7dbl_{i}" for i in (1, 2, 3, 4, 5))),
                self.chain(self.average(x), f"{b}_pool"),
            ],
            1,
        )

    def block_e(self, x, b: str, pool):
        single, double = self.chain(x, f"{b}3x3_1"), self.chain(x, f"{b}3x3dbl_1", f"{b}3x3dbl_2")
        return self.torch.cat(
            [
                self.chain(x, f"{b}1x1"),
                self.chain(single, f"{b}3x3_2a"),
                self.chain(single, f"{b}3x3_2b"),
                self.chain(double, f"{b}3x3dbl_3a"),
                self.chain(double, f"{b}3x3dbl_3b"),
                self.chain(pool(x), f"{b}_pool"),
            ],
            1,
        )
