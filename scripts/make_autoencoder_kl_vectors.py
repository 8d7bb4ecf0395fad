"""Makes tests/golden/autoencoder_kl.npz: what PyTorch's diffusers computes with AutoencoderKL in float64.

  python scripts/make_autoencoder_kl_vectors.py

Needs torch and diffusers (the extra `peers`). The weights are not stored: dfm/peers/autoencoder_kl.py makes them from
names and shapes alone, for the tests again.
"""

from pathlib import Path
from typing import Any

import numpy as np

from dfm.peers.autoencoder_kl import CASES, CONFIGS, example_images, peer_model, peer_outputs

GOLDEN = Path(__file__).parent.parent / "tests" / "golden" / "autoencoder_kl.npz"


def main() -> None:
    import diffusers

    arrays: dict[str, Any] = {"diffusers_version": np.array(diffusers.__version__)}
    for name, size in CASES:
        model = peer_model(CONFIGS[name])
        arrays[f"{name}/names"] = np.array(sorted(model.state_dict()))
        moments, pictures = peer_outputs(model, example_images(CONFIGS[name], size))
        arrays[f"{name}/{size[0]}x{size[1]}/moments"] = moments
        arrays[f"{name}/{size[0]}x{size[1]}/pictures"] = pictures
    np.savez_compressed(GOLDEN, **arrays)
    print(f"{GOLDEN.name}: {GOLDEN.stat().st_size:,} bytes, diffusers {diffusers.__version__}")


if __name__ == "__main__":
    main()
