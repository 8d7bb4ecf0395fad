"""The latents profile: grids of integers, a context model that codes them, a synthesis that paints them."""
