"""The weights profile: a Deep Fourier Machine fitted to one picture, whose quantised coefficients are the file."""
