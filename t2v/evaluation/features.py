"""Features of clips for distances between sets of them: a small network that was taught to name what worlds show.

`benchmarks/features.py` taught it the family, number, backdrop, subjects, colours, sizes and motions of drawn clips,
and the layer before those names is what is taken. Distances in such features see what is named and little else: of
clips that are unlike worlds they say less.
"""

import hashlib
from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load
from torch import Tensor, nn
from torch.nn import functional

FILE = "features.safetensors"
NUM_FRAMES, SIDE = 8, 32  # what every clip is brought to
NUM_FEATURES = 96
AT_ONCE = 32


class FeatureNet(nn.Sequential):
    """Clips b 3 f h w in [-1, 1], of NUM_FRAMES and SIDE, to features b NUM_FEATURES."""

    def __init__(self) -> None:
        super().__init__(
            *_layer(3, 24, kernel=(1, 5, 5), stride=(1, 2, 2)),
            *_layer(24, 48, kernel=(3, 3, 3), stride=(1, 2, 2)),
            *_layer(48, 96, kernel=(3, 3, 3), stride=(2, 2, 2)),
            *_layer(96, NUM_FEATURES, kernel=(3, 3, 3), stride=(1, 1, 1)),
            nn.AdaptiveAvgPool3d(1),
            nn.Flatten(),
        )


def clip_features(clips: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
    """Features of clips, n NUM_FEATURES; each clip uint8 f h w 3 of any length and size."""
    network = _network()
    found = []
    with torch.inference_mode():
        for start in range(0, len(clips), AT_ONCE):
            found.append(network(torch.stack([prepared(clip) for clip in clips[start : start + AT_ONCE]])).numpy())
    return np.concatenate([np.zeros((0, NUM_FEATURES), np.float32), *found])


def prepared(frames: NDArray[np.uint8]) -> Tensor:
    """A clip as the network takes it, 3 f h w in [-1, 1]: moments evenly chosen, pixels averaged.

    frames: uint8 f h w 3
    """
    # The middles of equal parts of the clip, so that one of twice the rate gives the same moments.
    moments = ((np.arange(NUM_FRAMES) + 0.5) * len(frames) / NUM_FRAMES).astype(int)
    pixels = torch.from_numpy(frames[moments]).permute(0, 3, 1, 2).float() / 127.5 - 1
    if pixels.shape[-2:] != (SIDE, SIDE):
        pixels = functional.interpolate(pixels, (SIDE, SIDE), mode="bilinear", antialias=True, align_corners=False)
    return pixels.transpose(0, 1)


def features_sha256() -> str:
    """Hash of the network's weights: distances are only to be compared under equal ones."""
    return hashlib.sha256(_weights()).hexdigest()


@cache
def _network() -> FeatureNet:
    network = FeatureNet()
    network.load_state_dict({name: tensor.float() for name, tensor in load(_weights()).items()})
    return network.eval().requires_grad_(False)


def _weights() -> bytes:
    return (resources.files("t2v.evaluation") / FILE).read_bytes()


def _layer(inputs: int, outputs: int, *, kernel: tuple[int, int, int], stride: tuple[int, int, int]) -> list[Any]:
    padding = (kernel[0] // 2, kernel[1] // 2, kernel[2] // 2)
    convolution = nn.Conv3d(inputs, outputs, kernel, stride=stride, padding=padding, bias=False)
    return [convolution, nn.BatchNorm3d(outputs), nn.SiLU()]
