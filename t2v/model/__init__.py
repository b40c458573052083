"""Networks only: they know shapes, not noise levels."""

from t2v.model.unet3d import Unet3D

__all__ = ["Unet3D"]
