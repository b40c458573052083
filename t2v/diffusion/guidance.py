"""Ask the network, with guidance towards a text and away from none, another, or a weaker network's answer."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from t2v.diffusion.schedule import spread

Text = dict[str, Tensor]
Network = Callable[[Tensor, Tensor, Text | None], Tensor]


@dataclass(frozen=True)
class Guidance:
    """How hard a walk is pulled away from the null text, the negative text or the guide.

    scale: 1 asks plainly; one for the whole walk, or several from its first step to its last, with lines between them
    low, high: noise levels (sigma, in [0, 1]) between which to guide; outside the scale is 1.
        Kynkäänniemi et al. 2024.
    rescale: how much of the spread that guidance adds is taken back, in [0, 1]. Lin et al. 2024, section 3.4.
    guide: a weaker network, asked the same; then it is the one to move away from. Karras et al. 2024 (autoguidance).
    """

    scale: float | Sequence[float] = 1.0
    low: float = 0.0
    high: float = 1.0
    rescale: float = 0.0
    guide: Network | None = None

    def scale_at(self, *, done: float, sigma: float) -> float:
        """The scale of a step. done: 0 at the first step of the walk, 1 at the last; sigma: its noise level."""
        if not self.low <= sigma <= self.high:
            return 1.0
        scales = [float(self.scale)] if isinstance(self.scale, (int, float)) else list(self.scale)
        place = done * (len(scales) - 1)
        before = min(int(place), len(scales) - 1)
        after = min(before + 1, len(scales) - 1)
        return scales[before] + (place - before) * (scales[after] - scales[before])


def guide(
    network: Network,
    x_t: Tensor,
    t: Tensor,
    text: Text | None,
    *,
    scale: float,
    negative: Text | None = None,
    weaker: Network | None = None,
    rescale: float = 0.0,
) -> Tensor:
    """The network's output in x_t's dtype, moved away from what it says to the null text (or `negative`).

    One call of the network in any case; with `weaker` one of that too, to move away from its answer to the same text.
    x_t: b c f h w; t: b, as the network is told; text, negative: entries with b in front, the same keys
    scale: 1 asks plainly and ignores `negative`; 0 gives the answer to the null text or `negative`
    Channels beyond those of x_t, which say a variance, are those of the plain answer.
    Without a text the clips are guided from `negative` towards no text; without both there is nothing to guide by.
    Ho & Salimans 2022, eq. 6, with scale = 1 + w.
    """
    # A network in half precision rounds each answer; rounding their difference too would show under strong guidance.
    given = negative if text is None else text
    if scale == 1 or (given is None and weaker is None):
        return network(x_t, t, text).to(x_t.dtype)
    if weaker is not None:
        toward, away = network(x_t, t, text).to(x_t.dtype), weaker(x_t, t, text).to(x_t.dtype)
    else:
        both = _both(text, negative)
        toward, away = network(torch.cat((x_t, x_t)), torch.cat((t, t)), both).to(x_t.dtype).chunk(2)
    channels = x_t.shape[1]
    plain, variance = toward[:, :channels], toward[:, channels:]
    guided = torch.lerp(away[:, :channels], plain, scale)
    if rescale:
        guided = _with_spread_of(plain, guided, rescale)
    return torch.cat((guided, variance), dim=1) if variance.shape[1] else guided


def null_text(text: Text) -> Text:
    """The same batch with the learned null embedding in every caption's place."""
    return {**text, "is_null": torch.ones_like(text["is_null"])}


def _both(text: Text | None, negative: Text | None) -> Text:
    """The texts to move towards and away from, one after the other along the batch."""
    given = negative if text is None else text
    assert given is not None
    toward = null_text(given) if text is None else text
    away = null_text(given) if negative is None else negative
    return {key: torch.cat((toward[key], away[key])) for key in toward}


def _with_spread_of(plain: Tensor, guided: Tensor, share: float) -> Tensor:
    """Scale each guided clip a share of the way to the spread of the plain one. Lin et al. 2024, eq. 15 and 16."""
    ratio = plain.flatten(1).std(dim=1) / guided.flatten(1).std(dim=1)
    return guided * spread(1 - share + share * ratio, guided)
