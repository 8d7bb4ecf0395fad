"""Pictures by name: uint8 arrays in, shuffled batches out.

    dataset = load("mnist", "train", data_dir="...")
    batch = Batches(dataset, batch_size=64, seed=0).at(step)      # {"image", "label", "index"}

`python -m dfm.data.prepare mnist cifar10` fetches what `load` needs; `digits` needs nothing.
"""

from dfm.data.batches import Batches
from dfm.data.dataset import Dataset
from dfm.data.datasets import load

__all__ = ["Batches", "Dataset", "load"]
