"""Files of other libraries <-> models: names, configs, tensors. The doors: `load_pretrained`, `save_pretrained`."""

from dfm.conversion.pretrained import load_pretrained, save_pretrained

__all__ = ["load_pretrained", "save_pretrained"]
