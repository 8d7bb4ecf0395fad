"""Deep Fourier Machines: one small net fitted to one picture is a compressed file."""

__version__ = "0.1.0"
