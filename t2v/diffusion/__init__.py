"""The mathematics of diffusion: tensors in, tensors out, with the network as a callable."""

from t2v.diffusion.gaussian import GaussianDiffusion
from t2v.diffusion.steps import Step

__all__ = ["GaussianDiffusion", "Step"]
