"""video-diffusion-pytorch 0.7.0, which speed.py and quality.py measure us against."""

import sys
from typing import Any
from unittest.mock import MagicMock

INSTALL = "pip install --no-deps video-diffusion-pytorch==0.7.0 einops-exts==0.0.4"


def original_code() -> Any:
    """The module with its Unet3D, GaussianDiffusion and EMA. Ends the process where it is not installed."""
    # Only its folder reader needs torchvision, of which there is not always a build.
    for module in ("torchvision", "torchvision.transforms", "torchvision.utils"):
        sys.modules[module] = MagicMock()
    try:
        import video_diffusion_pytorch.video_diffusion_pytorch as original
    except ImportError:
        sys.exit(f"the original is missing; {INSTALL}")
    return original
