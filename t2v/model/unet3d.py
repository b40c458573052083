"""The network: a U-Net over frames, with attention between the frames of a clip."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from einops import rearrange
from torch import Tensor, nn

from t2v.model.attention import PreNormResidual, SpatialAttention, SpatialLinearAttention, TemporalAttention
from t2v.model.blocks import FrameConv, FrameUpsample, ResnetBlock, frame_downsample
from t2v.model.positions import (
    FramePositions,
    RelativePositionBias,
    frame_rotation,
    rotary_frequencies,
    sinusoidal,
)

STD_FLOOR = 0.1  # of the typical spread: features that hardly vary among the captions are not blown up into noise


class Unet3D(nn.Module):
    """Ho et al. 2022 (Video Diffusion Models), as lucidrains/video-diffusion-pytorch 0.7 builds it.

    dim: even. attn_dim_head: even; heads of the spatial attentions are always 32 wide.
    cond_dim: width of the text's pooled vector; None builds an unconditional network.
    out_dim: channels of the output (default: channels). init_dim: channels after the first convolution (default: dim).
    patch: side of the pixel squares that are folded into channels first and unfolded last, without loss.
    """

    frequencies: Tensor
    text_mean: Tensor
    text_std: Tensor

    def __init__(
        self,
        dim: int,
        *,
        cond_dim: int | None = None,
        out_dim: int | None = None,
        dim_mults: Sequence[int] = (1, 2, 4, 8),
        channels: int = 3,
        attn_heads: int = 8,
        attn_dim_head: int = 32,
        init_dim: int | None = None,
        init_kernel_size: int = 7,
        use_sparse_linear_attn: bool = True,
        patch: int = 1,
    ) -> None:
        super().__init__()
        if dim % 2 or attn_dim_head % 2 or not init_kernel_size % 2:
            raise ValueError(
                "dim and attn_dim_head must be even and init_kernel_size odd, "
                f"not {dim}, {attn_dim_head} and {init_kernel_size}"
            )
        self.dim = dim
        self.cond_dim = cond_dim
        self.channels = channels
        self.patch = patch
        self.size_step = patch * 2 ** (len(dim_mults) - 1)
        init_dim = init_dim or dim
        widths = [init_dim, *(dim * mult for mult in dim_mults)]
        time_dim = 4 * dim
        embedding_dim = time_dim + (cond_dim or 0)

        def temporal(width: int) -> PreNormResidual:
            return PreNormResidual(width, TemporalAttention(width, heads=attn_heads, dim_head=attn_dim_head))

        def level(width: int, width_out: int) -> Level:
            spatial = PreNormResidual(width_out, SpatialLinearAttention(width_out, heads=attn_heads))
            return Level(
                block1=ResnetBlock(width, width_out, embedding_dim=embedding_dim),
                block2=ResnetBlock(width_out, width_out, embedding_dim=embedding_dim),
                spatial=spatial if use_sparse_linear_attn else nn.Identity(),
                temporal=temporal(width_out),
            )

        self.register_buffer("frequencies", rotary_frequencies(attn_dim_head), persistent=False)
        self.relative_bias = RelativePositionBias(attn_heads)
        self.time_mlp = nn.Sequential(nn.Linear(dim, time_dim), nn.GELU(), nn.Linear(time_dim, time_dim))
        if cond_dim is not None:
            self.null_text = nn.Parameter(torch.randn(cond_dim))
            self.register_buffer("text_mean", torch.zeros(cond_dim))
            self.register_buffer("text_std", torch.ones(cond_dim))

        self.init_conv = FrameConv(
            channels * patch**2, init_dim, kernel_size=init_kernel_size, padding=init_kernel_size // 2
        )
        self.init_temporal = temporal(init_dim)
        pairs = list(pairwise(widths))
        inner = widths[1:-1]
        self.downs = nn.ModuleList(level(width, width_out) for width, width_out in pairs)
        self.downsamples = nn.ModuleList([*map(frame_downsample, inner), nn.Identity()])
        self.mid_block1 = ResnetBlock(widths[-1], widths[-1], embedding_dim=embedding_dim)
        self.mid_spatial = PreNormResidual(widths[-1], SpatialAttention(widths[-1], heads=attn_heads))
        self.mid_temporal = temporal(widths[-1])
        self.mid_block2 = ResnetBlock(widths[-1], widths[-1], embedding_dim=embedding_dim)
        self.ups = nn.ModuleList(level(2 * width_out, width) for width, width_out in reversed(pairs))
        self.upsamples = nn.ModuleList([*map(FrameUpsample, reversed(inner)), nn.Identity()])
        self.final_block = ResnetBlock(2 * init_dim, dim)
        self.final_conv = nn.Linear(dim, (out_dim or channels) * patch**2)

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        text: Mapping[str, Tensor] | None = None,
        *,
        focus_present_mask: Tensor | None = None,
    ) -> Tensor:
        """Judge noised clips.

        x: b c f h w in the parameters' dtype; h and w multiples of size_step
        t: b, fractions allowed
        text: `pooled` b cond_dim and `is_null` b bool, true where the learned null embedding takes the caption's
            place; None is null for every clip
        focus_present_mask: b bool; frames of a masked clip do not see each other, save in the first attention
        Returns b out_dim f h w.
        """
        self._check(x)
        embedding = self._embed(t, text)
        num_frames = x.shape[2]
        all_frames = FramePositions(
            rotation=frame_rotation(self.frequencies, num_frames), bias=self.relative_bias(num_frames)[None, None]
        )
        positions = all_frames if focus_present_mask is None else all_frames.focus_present(focus_present_mask)

        x = rearrange(x, "b c f (h p) (w q) -> b f h w (c p q)", p=self.patch, q=self.patch)
        x = first = self.init_temporal(self.init_conv(x), all_frames)
        skips = []
        for level, downsample in zip(self.downs, self.downsamples, strict=True):
            x = level(x, embedding, positions)
            skips.append(x)
            x = downsample(x)
        x = self.mid_block1(x, embedding)
        x = self.mid_temporal(self.mid_spatial(x), positions)
        x = self.mid_block2(x, embedding)
        for level, upsample in zip(self.ups, self.upsamples, strict=True):
            x = level(torch.cat((x, skips.pop()), dim=-1), embedding, positions)
            x = upsample(x)
        x = self.final_conv(self.final_block(torch.cat((x, first), dim=-1)))
        return rearrange(x, "b f h w (c p q) -> b c f (h p) (w q)", p=self.patch, q=self.patch)

    @torch.no_grad()
    def set_text_statistics(self, pooled: Tensor) -> None:
        """Learn from the training captions how text is standardised before use. pooled: n cond_dim, n at least 1."""
        # Encoders differ: MiniLM's pooled features have a spread of 0.03 and would hardly be heard beside the time
        # embedding; BERT-base has a few features so large that scaling whole vectors would drown all others.
        # So each feature gets its own mean and spread, in float64, where equal captions average to themselves.
        pooled = pooled.double()
        std = pooled.std(dim=0, correction=0)
        typical = std.square().mean().sqrt()
        # Captions that are all alike say nothing about spread; then only their mean is taken off.
        std = std.clamp_min(STD_FLOOR * typical) if typical > 1e-6 else torch.ones_like(std)
        self.text_mean.copy_(pooled.mean(dim=0))
        self.text_std.copy_(std)

    def _check(self, x: Tensor) -> None:
        _, channels, _, height, width = x.shape
        if channels != self.channels:
            raise ValueError(f"this network takes clips of {self.channels} channels, not {channels}")
        if height % self.size_step or width % self.size_step:
            raise ValueError(f"width and height must be multiples of {self.size_step}, not {width}x{height}")

    def _embed(self, t: Tensor, text: Mapping[str, Tensor] | None) -> Tensor:
        """One vector a clip from its timestep and its text. Returns b d."""
        dtype = self.final_conv.weight.dtype
        angles = sinusoidal(t, dim=self.dim, dtype=torch.promote_types(dtype, torch.float32))
        time_emb: Tensor = self.time_mlp(angles.to(dtype))
        if self.cond_dim is None:
            if text is not None:
                raise ValueError("this network was built without cond_dim and takes no text")
            return time_emb
        return torch.cat((time_emb, self._text_emb(text, num_clips=len(t))), dim=-1)

    def _text_emb(self, text: Mapping[str, Tensor] | None, *, num_clips: int) -> Tensor:
        if text is None:
            return self.null_text.expand(num_clips, -1)
        text_emb = (text["pooled"].to(self.null_text.dtype) - self.text_mean) / self.text_std
        return torch.where(text["is_null"][:, None], self.null_text, text_emb)


class Level(nn.Module):
    """What happens at one resolution of the U-Net, on its way down or up."""

    def __init__(self, *, block1: ResnetBlock, block2: ResnetBlock, spatial: nn.Module, temporal: nn.Module) -> None:
        super().__init__()
        self.block1 = block1
        self.block2 = block2
        self.spatial = spatial
        self.temporal = temporal

    def forward(self, x: Tensor, embedding: Tensor, positions: FramePositions) -> Tensor:
        """x: b f h w c; embedding: b d. Returns b f h w c'."""
        x = self.block2(self.block1(x, embedding), embedding)
        x = self.temporal(self.spatial(x), positions)
        return x
