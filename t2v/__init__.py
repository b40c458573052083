"""Train your own text-to-video diffusion model on a folder of GIFs, and sample from it."""

__version__ = "0.1.0"
