"""What a caption says of each place of a frame and each moment of a clip."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from t2v.model.blocks import zero

QUARTER_TURNS = (1, 2, 4)  # from the middle of an axis to its end, of the waves that tell where one is along it
NUM_COORDINATES = 1 + 2 * len(QUARTER_TURNS)  # of an axis


class PlaceReader(nn.Module):
    """Reads the embedding of time and text at every place of a clip.

    Convolutions hardly know where in a frame they are, attention over frames not when, and what a word such as "left"
    means is a matter of both. Two layers take the coordinates (Liu et al. 2018, CoordConv), and the embedding scales
    and shifts their channels (Perez et al. 2018, FiLM). What they say has the same meaning on grids of all sizes.

    embedding_dim: width of the embedding; dim: of what is said
    """

    def __init__(self, embedding_dim: int, dim: int) -> None:
        super().__init__()
        self.from_moment = nn.Linear(NUM_COORDINATES, dim, bias=False)
        self.from_row = nn.Linear(NUM_COORDINATES, dim, bias=False)
        self.from_column = nn.Linear(NUM_COORDINATES, dim)
        self.between = nn.Linear(dim, dim)
        self.to_scale_shift = nn.Linear(embedding_dim, 4 * dim)

    def forward(
        self, embedding: Tensor, grid: tuple[int, int, int], focus_present_mask: Tensor | None = None
    ) -> Tensor:
        """Say something of every place.

        embedding: b d; grid: frames, height and width
        focus_present_mask: b bool, clips whose frames are each alone; like a clip of one frame they know no moment
        Returns b f h w dim.
        """
        num_frames, height, width = grid
        moments, rows, columns = (coordinates(length, embedding.device).to(embedding.dtype) for length in grid)
        # A frame alone asks for 0 and not for nothing, as processes that train together wait for every gradient.
        when = self.from_moment(moments if num_frames > 1 else torch.zeros_like(moments))
        if focus_present_mask is None:
            when = when[:, None, None]
        else:
            when = torch.where(focus_present_mask[:, None, None], 0, when)[:, :, None, None]
        where = self.from_row(rows)[:, None] + self.from_column(columns)
        scale1, shift1, scale2, shift2 = self.to_scale_shift(F.silu(embedding))[:, None, None, None].chunk(4, dim=-1)
        said = F.silu(torch.addcmul(shift1, where + when, scale1 + 1))
        said = F.silu(torch.addcmul(shift2, self.between(said), scale2 + 1))
        return said.expand(-1, num_frames, height, width, -1)


class PlaceScaleShift(nn.Module):
    """Scales and shifts every pixel by what is said of its place; at first it changes nothing.

    A product, for a sum cannot say this: what "left" adds to a pixel is the thing's colour where the thing will be, and
    takes away the same where it will not be. Park et al. 2019 (SPADE).
    """

    def __init__(self, place_dim: int, dim: int) -> None:
        super().__init__()
        self.to_scale_shift = nn.Linear(place_dim, 2 * dim)
        zero(self.to_scale_shift)

    def forward(self, x: Tensor, said: Tensor) -> Tensor:
        """x: b f h w c; said: b f h w place_dim. Returns b f h w c."""
        scale, shift = self.to_scale_shift(said).chunk(2, dim=-1)
        return torch.addcmul(shift, x, scale + 1)


def coordinates(length: int, device: torch.device | None = None) -> Tensor:
    """Where each of `length` cells is along an axis from -1 to 1, and sines and cosines of that.

    Returns length, NUM_COORDINATES; float32.
    """
    # Made on the device: what is copied there makes a GPU wait.
    middles = ((2 * torch.arange(length, device=device) + 1) / length - 1)[:, None]
    angles = [0.5 * math.pi * turns * middles for turns in QUARTER_TURNS]
    return torch.cat((middles, *map(torch.sin, angles), *map(torch.cos, angles)), dim=1)
