"""What may be done to the fresh noise of a walk: functions that take `noise(step)` and return another such."""

from torch import Tensor

from t2v.diffusion.steps import Noise


def tempered(noise: Noise, temperature: float) -> Noise:
    """Scale all fresh noise; under 1 is calmer than the model. Latent diffusion's `temperature`."""
    return noise if temperature == 1 else lambda step: temperature * noise(step)


def dropped(noise: Noise, prob: float, *, coins: Noise) -> Noise:
    """Silence a share of the values and strengthen the others, so that their mean stays. Latent diffusion's dropout.

    prob: in [0, 1); coins: step -> values like the noise, uniform in [0, 1)
    """
    if prob == 0:
        return noise

    def thinned(step: int) -> Tensor:
        fresh = noise(step)
        return fresh * (coins(step) >= prob) / (1 - prob)

    return thinned
