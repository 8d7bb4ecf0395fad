"""A small net of Eq. 4.5 and 4.6 (Asadi 2022) written literally in PyTorch, float64, with autograd's gradients."""

from typing import Any

import numpy as np

WIDTHS, CHANNELS, POINTS = (3, 3, 4), 3, 20  # a residual layer, and two between unequal widths


def torch_fourier_net() -> dict[str, np.ndarray]:
    """Inputs, output and gradients of the net: x, weights, y, x_grad, and of layer i cos_i, sin_i, cos_i_grad, ..."""
    import torch

    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    x = torch.rand(POINTS, 2, dtype=torch.float64, generator=generator, requires_grad=True)
    sizes = (2, *WIDTHS, CHANNELS)
    coefficients: dict[str, torch.Tensor] = {}
    y = x
    for i, (m, n) in enumerate(zip(sizes[:-1], sizes[1:], strict=True)):
        k = torch.tensor([[row >> j & 1 for j in range(m)] for row in range(2**m)], dtype=torch.float64)
        cos, sin = ((0.05 * draw(2**m, n)).requires_grad_() for _ in range(2))
        coefficients |= {f"cos_{i}": cos, f"sin_{i}": sin}
        phase = 2 * torch.pi * y @ k.T
        out = torch.cos(phase) @ cos + torch.sin(phase) @ sin
        y = out + y if m == n else out
    y = torch.tanh(y)
    weights = draw(POINTS, CHANNELS)
    (weights * y).sum().backward()
    vectors: dict[str, Any] = {"x": x, "weights": weights, "y": y, "x_grad": x.grad, **coefficients}
    vectors |= {f"{name}_grad": value.grad for name, value in coefficients.items()}
    return {name: value.detach().numpy() for name, value in vectors.items()}
