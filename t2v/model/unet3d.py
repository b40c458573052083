"""The network: a U-Net over frames, with attention between the frames of a clip."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from t2v.model.attention import PreNormResidual, SpatialAttention, SpatialLinearAttention, TemporalAttention
from t2v.model.blocks import (
    FrameConv,
    FrameUpsample,
    ResnetBlock,
    fold_squares,
    frame_downsample,
    unfold_squares,
    zero,
)
from t2v.model.detail import DetailHead
from t2v.model.places import PlaceReader, PlaceScaleShift
from t2v.model.positions import (
    FramePositions,
    RelativePositionBias,
    frame_rotation,
    rotary_frequencies,
    sinusoidal,
)
from t2v.model.tokens import TokenAttention, TokenReader, Tokens, spread_of

Value = TypeVar("Value", int, str)
Run = Callable[..., Tensor]  # calls a part of the network with what it is given

# How the pixels of a level attend to those of their frame; beside these there is "none".
SPATIAL: dict[str, Callable[..., nn.Module]] = {"linear": SpatialLinearAttention, "full": SpatialAttention}


class Unet3D(nn.Module):
    """Ho et al. 2022 (Video Diffusion Models), as lucidrains/video-diffusion-pytorch 0.7 builds it.

    dim: even. attn_dim_head: even; heads of the spatial attentions are always 32 wide.
    blocks, attn_heads, spatial_attn, temporal_attn: one value for all levels, or one a level, which holds on the way
        down and up. The attention over frames before the first level goes with that level's. The middle has the heads
        of the last level and always attends, fully and over frames.
    zero_init: blocks and attentions start without any effect and the output at 0, see _start_at_zero.
    cond_dim: width of the text's pooled vector; None builds an unconditional network.
    out_dim: channels of the output (default: channels). init_dim: channels after the first convolution (default: dim).
    patch: side of the pixel squares that are folded into channels first and unfolded last, without loss.
    token_pooling: the tokens of the caption too are made one vector, which joins those of time and of the whole text.
    cross_attn: pixels look at the tokens, after those of their frame; one value for all levels or one a level, and the
        middle as the last level.
    token_dim, token_layers: width of the tokens that these read, and trainable layers before; see TokenReader.
    interval: the network is told the time between two frames, beside the timestep; at first it changes nothing.
    detail: channels of a head that corrects what is said of patches; see DetailHead. At first it changes nothing.
    place_dim: width in which the text and the timestep are read at every place and moment, to scale and shift each
        level's pixels after its blocks; see PlaceReader. At first it changes nothing.
    The original has none of the last seven, and an unconditional network has no use for tokens and interval.
    """

    checkpoint_activations = False  # for training: compute the insides of blocks and attentions again for gradients
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
        blocks: int | Sequence[int] = 2,
        attn_heads: int | Sequence[int] = 8,
        attn_dim_head: int = 32,
        init_dim: int | None = None,
        init_kernel_size: int = 7,
        spatial_attn: str | Sequence[str] = "linear",
        temporal_attn: bool | Sequence[bool] = True,
        zero_init: bool = False,
        patch: int = 1,
        token_pooling: bool = False,
        cross_attn: bool | Sequence[bool] = False,
        token_dim: int = 128,
        token_layers: int = 0,
        interval: bool = False,
        detail: int | None = None,
        place_dim: int | None = None,
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
        num_levels = len(dim_mults)
        looks_at_text = _each_level("cross_attn", cross_attn, num_levels)
        self.reads_tokens = cond_dim is not None and (token_pooling or any(looks_at_text))
        if not self.reads_tokens:
            looks_at_text, token_pooling = [False] * num_levels, False
        embedding_dim = time_dim + (cond_dim or 0) + (token_dim if token_pooling else 0)
        num_blocks = _each_level("blocks", blocks, num_levels)
        self.heads = heads = _each_level("attn_heads", attn_heads, num_levels)
        spatial_by = _each_level("spatial_attn", spatial_attn, num_levels)
        attends_in_time = _each_level("temporal_attn", temporal_attn, num_levels)

        def temporal(width: int, level: int) -> PreNormResidual:
            return PreNormResidual(width, TemporalAttention(width, heads=heads[level], dim_head=attn_dim_head))

        def looking(width: int, level: int) -> PreNormResidual | None:
            if not looks_at_text[level]:
                return None
            return PreNormResidual(width, TokenAttention(width, token_dim, heads=heads[level]))

        def build(level: int, width: int, width_out: int) -> Level:
            widths_in = [width, *[width_out] * (num_blocks[level] - 1)]
            return Level(
                place=None if place_dim is None else PlaceScaleShift(place_dim, width_out),
                spatial=_spatial_attention(spatial_by[level], width_out, heads=heads[level]),
                cross=looking(width_out, level),
                blocks=[ResnetBlock(width_in, width_out, embedding_dim=embedding_dim) for width_in in widths_in],
                temporal=temporal(width_out, level) if attends_in_time[level] else None,
            )

        self.register_buffer("frequencies", rotary_frequencies(attn_dim_head), persistent=False)
        # Shared by all, as in the original, where head k of every level reads column k; so a level of fewer heads
        # reads the first columns. A bias for each number of heads would part levels that now learn it together.
        self.relative_bias = RelativePositionBias(max(heads))
        self.time_mlp = nn.Sequential(nn.Linear(dim, time_dim), nn.GELU(), nn.Linear(time_dim, time_dim))
        self.interval_mlp = None
        if cond_dim is not None:
            self.null_text = nn.Parameter(torch.randn(cond_dim))
            self.register_buffer("text_mean", torch.zeros(cond_dim))
            self.register_buffer("text_std", torch.ones(cond_dim))
            if self.reads_tokens:
                self.token_reader = TokenReader(cond_dim, token_dim, num_layers=token_layers, pools=token_pooling)

            if interval:
                self.interval_mlp = nn.Sequential(nn.Linear(dim, time_dim), nn.GELU(), nn.Linear(time_dim, time_dim))
                zero(self.interval_mlp[-1])

        self.place_reader = None if place_dim is None else PlaceReader(embedding_dim, place_dim)
        self.init_conv = FrameConv(
            channels * patch**2, init_dim, kernel_size=init_kernel_size, padding=init_kernel_size // 2
        )
        self.init_temporal = temporal(init_dim, 0) if attends_in_time[0] else None
        pairs = [(level, *pair) for level, pair in enumerate(pairwise(widths))]
        inner = widths[1:-1]
        self.downs = nn.ModuleList(build(level, width, width_out) for level, width, width_out in pairs)
        self.downsamples = nn.ModuleList([*map(frame_downsample, inner), nn.Identity()])
        self.mid_block1 = ResnetBlock(widths[-1], widths[-1], embedding_dim=embedding_dim)
        self.mid_spatial = PreNormResidual(widths[-1], SpatialAttention(widths[-1], heads=heads[-1]))
        self.mid_cross = looking(widths[-1], num_levels - 1)
        self.mid_temporal = temporal(widths[-1], num_levels - 1)
        self.mid_block2 = ResnetBlock(widths[-1], widths[-1], embedding_dim=embedding_dim)
        self.ups = nn.ModuleList(build(level, 2 * width_out, width) for level, width, width_out in reversed(pairs))
        self.upsamples = nn.ModuleList([*map(FrameUpsample, reversed(inner)), nn.Identity()])
        self.final_block = ResnetBlock(2 * init_dim, dim)
        self.final_conv = nn.Linear(dim, (out_dim or channels) * patch**2)
        if zero_init:
            self._start_at_zero()
        self.detail = None
        if detail is not None:
            self.detail = DetailHead(
                dim, detail, channels=channels, out_dim=out_dim or channels, patch=patch, embedding_dim=embedding_dim
            )

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
            place; where reads_tokens also `tokens` b l cond_dim and `mask` b l bool, true where there is a token;
            perhaps `interval` b, ms from frame to frame, 0 where it is not told; None is null for every clip
        focus_present_mask: b bool; frames of a masked clip do not see each other, save in the first attention, which
            the original leaves out. Training shows stills as clips of one frame, which has nothing else to see.
        Returns b out_dim f h w.
        """
        self._check(x)
        embedding, tokens = self._embed(t, text)
        num_frames = x.shape[2]
        all_frames = FramePositions(
            rotation=frame_rotation(self.frequencies, num_frames), bias=self.relative_bias(num_frames)[None, None]
        )
        positions = all_frames if focus_present_mask is None else all_frames.focus_present(focus_present_mask)
        positions_at = [positions.of_heads(heads) for heads in self.heads]

        run = _run_again if self.checkpoint_activations else _run
        noised = x
        x = self.init_conv(fold_squares(noised, self.patch))
        said_at = self._said_of_places(x, embedding, focus_present_mask, run)
        if self.init_temporal is not None:
            x = run(self.init_temporal, x, all_frames.of_heads(self.heads[0]))
        first = x
        skips = []
        for level, downsample, here, said in zip(self.downs, self.downsamples, positions_at, said_at, strict=True):
            x = level(x, embedding, said, tokens, here, run)
            skips.append(x)
            x = downsample(x)
        x = run(self.mid_block1, x, embedding)
        x = run(self.mid_spatial, x)
        if self.mid_cross is not None:
            x = run(self.mid_cross, x, tokens)
        x = run(self.mid_temporal, x, positions_at[-1])
        x = run(self.mid_block2, x, embedding)
        for level, upsample, here, said in zip(
            self.ups, self.upsamples, reversed(positions_at), reversed(said_at), strict=True
        ):
            x = level(torch.cat((x, skips.pop()), dim=-1), embedding, said, tokens, here, run)
            x = upsample(x)
        x = run(self.final_block, torch.cat((x, first), dim=-1))
        answer = unfold_squares(self.final_conv(x), self.patch)
        return answer if self.detail is None else answer + self.detail(answer, noised, x, embedding, run)

    @torch.no_grad()
    def set_text_statistics(self, pooled: Tensor, tokens: Iterable[Tensor] = ()) -> None:
        """Learn from the training captions how text is standardised before use.

        pooled: n cond_dim, n at least 1; tokens: l cond_dim of each caption, for a network that reads tokens
        """
        # Encoders differ: MiniLM's pooled features have a spread of 0.03 and would hardly be heard beside the time
        # embedding; BERT-base has a few features so large that scaling whole vectors would drown all others.
        # So each feature gets its own mean and spread, in float64, where equal captions average to themselves.
        pooled = pooled.double()
        self.text_mean.copy_(pooled.mean(dim=0))
        self.text_std.copy_(spread_of(pooled.var(dim=0, correction=0)))
        if self.reads_tokens:
            self.token_reader.set_statistics(tokens)

    def _start_at_zero(self) -> None:
        """Zero what every block, every attention and the network itself ends in: Dhariwal and Nichol 2021.

        Theirs is the last convolution of a block. Here a norm follows it, whose gradient at 0 has no bound, so it is
        the gain after that norm which is zeroed, as Goyal et al. 2017 do.
        """
        for module in self.modules():
            if isinstance(module, ResnetBlock):
                nn.init.zeros_(module.block2.gain)
            elif isinstance(module, PreNormResidual):
                zero(module.fn.get_submodule("to_out"))
        zero(self.final_conv)

    def _check(self, x: Tensor) -> None:
        _, channels, _, height, width = x.shape
        if channels != self.channels:
            raise ValueError(f"this network takes clips of {self.channels} channels, not {channels}")
        if height % self.size_step or width % self.size_step:
            raise ValueError(f"width and height must be multiples of {self.size_step}, not {width}x{height}")

    def _embed(self, t: Tensor, text: Mapping[str, Tensor] | None) -> tuple[Tensor, Tokens | None]:
        """One vector a clip from its timestep and its text, b d; and the tokens to look at, if they are read."""
        dtype = self.final_conv.weight.dtype
        angles = sinusoidal(t, dim=self.dim, dtype=torch.promote_types(dtype, torch.float32))
        time_emb: Tensor = self.time_mlp(angles.to(dtype))
        if self.cond_dim is None:
            if text is not None:
                raise ValueError("this network was built without cond_dim and takes no text")
            return time_emb, None
        if self.interval_mlp is not None and text is not None and "interval" in text:
            time_emb = time_emb + self._interval_emb(text["interval"], dtype)
        parts = [time_emb, self._text_emb(text, num_clips=len(t))]
        if not self.reads_tokens:
            return torch.cat(parts, dim=-1), None
        tokens = self.token_reader(text, num_clips=len(t))
        if self.token_reader.pool is not None:
            parts.append(self.token_reader.pooled(tokens))
        return torch.cat(parts, dim=-1), tokens

    def _said_of_places(
        self, x: Tensor, embedding: Tensor, focus_present_mask: Tensor | None, run: Run
    ) -> list[Tensor | None]:
        """What is said of the places of each level, b f h w place_dim. x: b f h w c, at the first level."""
        if self.place_reader is None:
            return [None] * len(self.downs)
        _, num_frames, height, width, _ = x.shape
        return [
            run(
                self.place_reader,
                embedding,
                (num_frames, height // 2**level, width // 2**level),
                focus_present_mask,
            )
            for level in range(len(self.downs))
        ]

    def _interval_emb(self, interval: Tensor, dtype: torch.dtype) -> Tensor:
        """b 4 * dim; nothing where no interval is told. interval: b, ms."""
        assert self.interval_mlp is not None
        # Of 10 ms to 1 s in the range that timesteps have, twice as long always as far.
        octaves = 100 * interval.float().clamp_min(1).log2()
        angles = sinusoidal(octaves, dim=self.dim, dtype=torch.promote_types(dtype, torch.float32))
        emb: Tensor = self.interval_mlp(angles.to(dtype))
        return torch.where(interval[:, None] > 0, emb, 0.0)

    def _text_emb(self, text: Mapping[str, Tensor] | None, *, num_clips: int) -> Tensor:
        if text is None:
            return self.null_text.expand(num_clips, -1)
        text_emb = (text["pooled"].to(self.null_text.dtype) - self.text_mean) / self.text_std
        return torch.where(text["is_null"][:, None], self.null_text, text_emb)


class Level(nn.Module):
    """What happens at one resolution of the U-Net, on its way down or up."""

    def __init__(
        self,
        *,
        blocks: Sequence[ResnetBlock],
        place: PlaceScaleShift | None,
        spatial: PreNormResidual | None,
        cross: PreNormResidual | None,
        temporal: PreNormResidual | None,
    ) -> None:
        super().__init__()
        self.block_names = [f"block{number}" for number in range(1, len(blocks) + 1)]
        for name, block in zip(self.block_names, blocks, strict=True):
            self.add_module(name, block)
        self.place = place
        self.spatial = spatial
        self.cross = cross
        self.temporal = temporal

    def forward(
        self,
        x: Tensor,
        embedding: Tensor,
        said: Tensor | None,
        tokens: Tokens | None,
        positions: FramePositions,
        run: Run,
    ) -> Tensor:
        """x: b f h w c; embedding: b d; said: b f h w p, of places; run: what calls the parts. Returns b f h w c'."""
        for name in self.block_names:
            x = run(getattr(self, name), x, embedding)
        if self.place is not None:
            x = run(self.place, x, said)
        if self.spatial is not None:
            x = run(self.spatial, x)
        if self.cross is not None:
            x = run(self.cross, x, tokens)
        if self.temporal is not None:
            x = run(self.temporal, x, positions)
        return x


def _run(part: nn.Module, *given: Any) -> Tensor:
    out: Tensor = part(*given)
    return out


def _run_again(part: nn.Module, *given: Any) -> Tensor:
    """Keep what the part was given, and run it once more when its gradients are due. Chen et al. 2016."""
    # Nothing in the network is random, so there is no state of a generator to keep.
    out: Tensor = checkpoint(part, *given, use_reentrant=False, preserve_rng_state=False)
    return out


def _each_level(name: str, given: Value | Sequence[Value], num_levels: int) -> list[Value]:
    """One value a level from one a level, or one for all. Raises ValueError for any other number."""
    values: list[Value] = [given] if isinstance(given, int | str) else list(given)
    if len(values) not in (1, num_levels):
        raise ValueError(f"{name} must be one value, or {num_levels} for the levels of dim_mults, not {len(values)}")
    return values if len(values) == num_levels else values * num_levels


def _spatial_attention(name: str, width: int, *, heads: int) -> PreNormResidual | None:
    if name == "none":
        return None
    if name not in SPATIAL:
        raise ValueError(f"spatial_attn must be {', '.join(SPATIAL)} or none, not {name!r}")
    return PreNormResidual(width, SPATIAL[name](width, heads=heads))
