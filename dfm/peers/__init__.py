"""The same computations in PyTorch and diffusers, for parity tests and benchmarks; imported by nothing else."""
