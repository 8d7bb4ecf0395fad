"""Golden vectors of peers' code, so that parity is tested where the peers are not installed.

    python scripts/make_peer_vectors.py        # needs torch; writes tests/golden/torch_fourier_net.npz

A small net with the gradients of a weighted sum, by dfm/peers/fourier.py.
"""

from pathlib import Path
from typing import Any

import numpy as np

from dfm.peers.fourier import torch_fourier_net

OUTPUT = Path(__file__).resolve().parent.parent / "tests" / "golden" / "torch_fourier_net.npz"

if __name__ == "__main__":
    vectors: dict[str, Any] = torch_fourier_net()
    np.savez_compressed(OUTPUT, **vectors)
    print(f"wrote {OUTPUT.name}")
