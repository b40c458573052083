"""Ask the network, with classifier-free guidance towards a text and away from none or another."""

from collections.abc import Callable

import torch
from torch import Tensor

Text = dict[str, Tensor]
Network = Callable[[Tensor, Tensor, Text | None], Tensor]


def guide(
    network: Network,
    x_t: Tensor,
    t: Tensor,
    text: Text | None,
    *,
    guidance_scale: float,
    negative: Text | None = None,
) -> Tensor:
    """The network's output in x_t's dtype, moved away from the null text (or `negative`); one call in any case.

    x_t: b c f h w; t: b; text, negative: entries with b in front, the same keys
    guidance_scale: 1 asks plainly and ignores `negative`; 0 gives the answer to the null text or `negative`
    Without a text the clips are guided from `negative` towards no text; without both there is nothing to guide by.
    Ho & Salimans 2022, eq. 6, with guidance_scale = 1 + w.
    """
    given = negative if text is None else text
    if guidance_scale == 1 or given is None:
        return network(x_t, t, text).to(x_t.dtype)
    nothing = null_text(given)
    toward = nothing if text is None else text
    away = nothing if negative is None else negative
    both = {key: torch.cat((toward[key], away[key])) for key in toward}
    output = network(torch.cat((x_t, x_t)), torch.cat((t, t)), both)
    # A network in half precision rounds each answer; rounding their difference too would show under strong guidance.
    cond, null = output.to(x_t.dtype).chunk(2)
    return null + guidance_scale * (cond - null)


def null_text(text: Text) -> Text:
    """The same batch with the learned null embedding in every caption's place."""
    return {**text, "is_null": torch.ones_like(text["is_null"])}
