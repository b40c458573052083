"""What the network makes of a caption's tokens: a vector for its blocks, and tokens for its pixels to look at."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor, nn

from t2v.model.attention import attend

DIM_HEAD = 32
STD_FLOOR = 0.1  # of the typical spread: features that hardly vary among the captions are not blown up into noise


class Tokens(NamedTuple):
    """A caption as the network keeps it at hand, behind a learned token that stands for no text.

    values: b l c; mask: b l, true where there is a token
    """

    values: Tensor
    mask: Tensor


class TokenAttention(nn.Module):
    """Whatever asks attends to the tokens of its caption. Vaswani et al. 2017; Rombach et al. 2022 for pixels."""

    def __init__(self, dim: int, token_dim: int, *, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(dim, heads * DIM_HEAD, bias=False)
        self.to_kv = nn.Linear(token_dim, 2 * heads * DIM_HEAD, bias=False)
        self.to_out = nn.Linear(heads * DIM_HEAD, dim, bias=False)

    def forward(self, x: Tensor, tokens: Tokens) -> Tensor:
        """x: b ... c, any number of places of each clip. Returns b ... c."""
        q = rearrange(self.to_q(x.flatten(1, -2)), "b n (m d) -> b m n d", m=self.heads)
        k, v = rearrange(self.to_kv(tokens.values.to(x.dtype)), "b l (s m d) -> s b m l d", s=2, m=self.heads)
        out = attend(q, k, v, mask=tokens.mask[:, None, None])
        attended: Tensor = self.to_out(rearrange(out, "b m n d -> b n (m d)"))
        return attended.view(x.shape)


class TokenLayer(nn.Module):
    """One trainable layer over tokens that a frozen encoder gave: they look at each other, then each for itself."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(dim)
        self.attention = TokenAttention(dim, dim, heads=dim // DIM_HEAD)
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(dim), nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim)
        )

    def forward(self, tokens: Tokens) -> Tokens:
        """The same tokens with what each has learned from the others."""
        normal = tokens._replace(values=self.attention_norm(tokens.values))
        values = tokens.values + self.attention(normal.values, normal)
        return tokens._replace(values=values + self.feed_forward(values))


class TokenReader(nn.Module):
    """The encoder's tokens standardised, in the network's width, and read by layers of its own.

    text_dim: width of the encoder's tokens; dim: of the network's, a multiple of 32
    num_layers: trainable layers over the tokens
    pools: whether a learned question is put to the tokens, whose answer is a vector of the caption (attention pooling)
    """

    token_mean: Tensor
    token_std: Tensor

    def __init__(self, text_dim: int, dim: int, *, num_layers: int, pools: bool) -> None:
        super().__init__()
        if dim % DIM_HEAD:
            raise ValueError(f"token_dim must be a multiple of {DIM_HEAD}, not {dim}")
        self.register_buffer("token_mean", torch.zeros(text_dim))
        self.register_buffer("token_std", torch.ones(text_dim))
        self.to_width = nn.Linear(text_dim, dim)
        # It stands before every caption too: so there is something to look at where no word concerns a pixel.
        self.null_token = nn.Parameter(torch.randn(dim))
        self.layers = nn.ModuleList(TokenLayer(dim) for _ in range(num_layers))
        self.norm = nn.LayerNorm(dim)
        self.question = nn.Parameter(torch.randn(1, dim)) if pools else None
        self.pool = TokenAttention(dim, dim, heads=dim // DIM_HEAD) if pools else None

    def forward(self, text: Mapping[str, Tensor] | None, *, num_clips: int) -> Tokens:
        """text: `tokens` b l text_dim, `mask` b l bool, `is_null` b bool; None is null for every clip."""
        null = self.null_token.expand(num_clips, 1, -1)
        always = torch.ones(num_clips, 1, dtype=torch.bool, device=null.device)
        if text is None:
            tokens = Tokens(null, always)
        else:
            normal = (text["tokens"].to(null.dtype) - self.token_mean) / self.token_std
            heard = text["mask"] & ~text["is_null"][:, None]
            tokens = Tokens(torch.cat((null, self.to_width(normal)), dim=1), torch.cat((always, heard), dim=1))
        for layer in self.layers:
            tokens = layer(tokens)
        return tokens._replace(values=self.norm(tokens.values))

    def pooled(self, tokens: Tokens) -> Tensor:
        """The vector of each caption, b dim; for a reader that was built to pool."""
        assert self.pool is not None and self.question is not None
        answer: Tensor = self.pool(self.question.expand(len(tokens.values), 1, -1), tokens)
        return answer[:, 0]

    @torch.no_grad()
    def set_statistics(self, tokens: Iterable[Tensor]) -> None:
        """Learn from the tokens of each training caption, l text_dim, how they are standardised."""
        total, squares = (torch.zeros_like(self.token_mean, dtype=torch.float64) for _ in range(2))
        number = 0
        for values in tokens:
            total += values.to(total).sum(dim=0)
            squares += values.to(total).square().sum(dim=0)
            number += len(values)
        mean = total / number
        self.token_mean.copy_(mean)
        self.token_std.copy_(spread_of((squares / number - mean.square()).clamp_min(0)))


def spread_of(variance: Tensor) -> Tensor:
    """What features of this variance among the captions are divided by; float64, d."""
    std = variance.sqrt()
    typical = variance.mean().sqrt()
    # Captions that are all alike say nothing about spread; then only their mean is taken off.
    return std.clamp_min(STD_FLOOR * typical) if typical > 1e-6 else torch.ones_like(std)
