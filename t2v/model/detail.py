"""A second look at finer squares, for networks that fold large patches."""

from collections.abc import Callable

import torch
from einops import rearrange
from torch import Tensor, nn

from t2v.model.blocks import ResnetBlock, fold_squares, unfold_squares, zero


class DetailHead(nn.Module):
    """A small block of convolutions that corrects a clip said in patches, once it is whole again.

    What a network says of a patch is a product of one vector: 80 numbers for the 192 of 8x8 pixels, so outlines blur
    and seams show. Here squares a quarter as wide are told apart, cheaply, as these layers are narrow. They read what
    was said, the noised clip itself and the vector of the patch. The last layer starts at 0: a network that has learned
    without a head can be given one. Large patches with a narrow decoder of pixels are due to Chen et al. 2025 (DiP).

    width: of the patch's vector; dim: channels of the head's layers; channels, out_dim: of the clips given and said
    patch: side of the network's squares; those of the head are max(1, patch // 4) wide
    """

    def __init__(self, width: int, dim: int, *, channels: int, out_dim: int, patch: int, embedding_dim: int) -> None:
        super().__init__()
        self.square = max(1, patch // 4)
        self.squares_a_side = patch // self.square
        self.spread = nn.Linear(width, dim * self.squares_a_side**2)
        values = self.square**2
        self.block = ResnetBlock(dim + (channels + out_dim) * values, dim, embedding_dim=embedding_dim)
        self.to_out = nn.Linear(dim, out_dim * values)
        zero(self.to_out)

    def forward(
        self, said: Tensor, x: Tensor, patches: Tensor, embedding: Tensor, run: Callable[..., Tensor]
    ) -> Tensor:
        """said: b c' f h w; x, the noised clip: b c f h w; patches: b f h/patch w/patch width; embedding: b d;
        run: what calls the block. Returns what is to be added to `said`, in its shape."""
        side = self.squares_a_side
        told = rearrange(self.spread(patches), "b f h w (p q c) -> b f (h p) (w q) c", p=side, q=side)
        y = torch.cat((told, fold_squares(said, self.square), fold_squares(x, self.square)), dim=-1)
        return unfold_squares(self.to_out(run(self.block, y, embedding)), self.square)
