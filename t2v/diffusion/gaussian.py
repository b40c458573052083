"""One diffusion process: schedule, prediction, variance and loss joined, for training and for drawing clips."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from t2v.diffusion.choose import choose
from t2v.diffusion.distributions import normal_kl, pixel_log_likelihood
from t2v.diffusion.guidance import Guidance, Network, Text, guide
from t2v.diffusion.losses import BOUNDS, DISTANCES, motion_error
from t2v.diffusion.prediction import PREDICTIONS, Scales, convert, noise_in
from t2v.diffusion.samplers import HEAR_OWN_NOISE, SAMPLERS
from t2v.diffusion.schedule import Schedule, spread
from t2v.diffusion.steps import Denoised, Noise, Step, mean_of
from t2v.diffusion.threshold import static, unbounded
from t2v.diffusion.variance import VARIANCES
from t2v.diffusion.weighting import loss_weight
from t2v.errors import SettingsError

Keep = Callable[[Tensor], Tensor]
CorrectNoise = Callable[[Tensor, Tensor, Tensor], Tensor]

PLAIN = Guidance()


class Losses(NamedTuple):
    """How wrong a network is about each clip, averaged over its values: b each, at least float32.

    total: what training makes small; distance: its part that teaches the mean, unweighted; bound: the variational
    term at t in bits per dimension, where the loss has one
    """

    total: Tensor
    distance: Tensor | None
    bound: Tensor | None


@dataclass(frozen=True, kw_only=True, eq=False)
class GaussianDiffusion:
    """Noise clips, judge a network's answers, and draw clips with it. Owns no weights.

    A network is any callable (x_t, t, text) -> output; x_t: b c f h w; t: b, on x_t's device, as the schedule tells it;
    output: like x_t, and with a learned variance twice its channels. Results follow the dtype and device of the clips
    passed in. An unknown name anywhere raises SettingsError.

    prediction, variance, loss, weighting: names of PREDICTIONS, VARIANCES, LOSSES and WEIGHTINGS
    gamma: of the weighting; None takes its authors' choice
    bound_weight: where a distance comes with a learned variance, the share at which the whole bound is added to it.
        Nichol & Dhariwal 2021, eq. 16; their code's plain "MSE" is 1 / num_timesteps.
    """

    schedule: Schedule
    prediction: str = "eps"
    variance: str = "fixed_small"
    loss: str = "l2"
    weighting: str = "none"
    gamma: float | None = None
    bound_weight: float = 0.001
    motion_weight: float = 1.0

    def __post_init__(self) -> None:
        choose(PREDICTIONS, self.prediction, "prediction")
        choose(VARIANCES, self.variance, "variance")
        choose({**DISTANCES, **BOUNDS}, self.loss, "loss")
        loss_weight(self.weighting, self.prediction, torch.ones(1), self.gamma)
        if self.motion_weight != 1 and self.loss != "l2":
            raise SettingsError(f"motion_weight {self.motion_weight:g} needs loss l2, not {self.loss}")
        if self.prediction == "eps" and self.schedule.alphas_cumprod[-1] == 0:
            raise SettingsError(
                "prediction eps cannot go with a schedule that ends in zero signal (zero_terminal_snr): pure noise "
                "minus its noise says nothing of the clip; take prediction v or x0"
            )

    @property
    def num_timesteps(self) -> int:
        return self.schedule.num_timesteps

    @property
    def learns_variance(self) -> bool:
        """Whether the network gives twice the channels of a clip."""
        return VARIANCES[self.variance].is_learned

    def visiting(self, schedule: Schedule) -> "GaussianDiffusion":
        """The same process seen only at the levels of another schedule (see spacing.py)."""
        return replace(self, schedule=schedule)

    def add_noise(self, x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """Mix a clean clip with noise.

        x0, noise: b c f h w; x0 in [-1, 1]
        t: b, whole numbers in [0, num_timesteps); kept on the CPU it costs a GPU no waiting
        Ho et al. 2020, eq. 4.
        """
        alpha, sigma = self.schedule.level(t)
        return spread(alpha, x0) * x0 + spread(sigma, x0) * noise

    def losses(self, network: Network, x0: Tensor, t: Tensor, noise: Tensor, text: Text | None = None) -> Losses:
        """How wrong the network is about each clip.

        x0, noise: b c f h w; t: b, whole numbers in [0, num_timesteps); text: entries with b in front
        Ho et al. 2020, eq. 14, with the chosen prediction and loss; with a learned variance Nichol & Dhariwal 2021,
        eq. 16, where the bound teaches only the variance.
        """
        x_t = self.add_noise(x0, noise, t)
        output = network(x_t, self.schedule.tell(t, x0), text)
        # In half precision the mean over a clip would lose the small differences.
        wide = torch.promote_types(torch.promote_types(output.dtype, x0.dtype), torch.float32)
        output, x0, x_t, noise = output.to(wide), x0.to(wide), x_t.to(wide), noise.to(wide)
        if self.loss in BOUNDS:
            bound = self._bound_from(output, x0, x_t, t)
            return Losses(bound * BOUNDS[self.loss](self.num_timesteps), None, bound)
        target = PREDICTIONS[self.prediction].target(x0, noise, Scales.of(self.schedule, t, x0))
        said, values = self._halves(output, channels=x0.shape[1])
        distance = DISTANCES[self.loss](said, target).flatten(1).mean(1)
        weight = loss_weight(self.weighting, self.prediction, self.schedule.snr(t), self.gamma)
        counted = distance
        if self.motion_weight != 1:
            counted = distance + (self.motion_weight - 1) * motion_error(said, target)
        weighted = counted if weight is None else counted * weight.to(counted)
        if not self.learns_variance:
            return Losses(weighted, distance, None)
        bound = self._bound_from(torch.cat((said.detach(), values), dim=1), x0, x_t, t)
        return Losses(weighted + self.bound_weight * self.num_timesteps * bound, distance, bound)

    def read(
        self,
        output: Tensor,
        x_t: Tensor,
        t: Tensor,
        *,
        keep_in_range: Keep = unbounded,
        own_noise: bool = False,
    ) -> Denoised:
        """What a network's output says of the clean clip and of the clip one step cleaner.

        output: as the network gave it for x_t (b c f h w) at t (b)
        keep_in_range: changes the estimate of the clean clip before anything follows from it
        own_noise: give the noise that the output means beside a changed clean clip, for `ddim` to keep
        """
        said, values = self._halves(output, channels=x_t.shape[1])
        scales = Scales.of(self.schedule, t, x_t)
        raw = PREDICTIONS[self.prediction].x0(said, x_t, scales)
        return Denoised(
            x0=keep_in_range(raw),
            x_t=x_t,
            log_variance=VARIANCES[self.variance].log_variance(self.schedule, t, values),
            mean=said if self.prediction == "previous" else None,
            eps=noise_in(x_t, raw, scales) if own_noise else None,
        )

    def bound_term(self, seen: Denoised, x0: Tensor, t: Tensor) -> Tensor:
        """The term of the variational bound at t: b, bits per dimension.

        How far the model's step lies from the true posterior; at timestep 0 how improbable the pixels are.
        x0: b c f h w, the true clip, of 8-bit pixels
        Ho et al. 2020, eq. 5.
        """
        posterior = self.schedule.posterior(t)
        mean, log_variance = mean_of(seen, self.schedule, t), seen.log_variance.expand_as(x0)
        true_log_variance = VARIANCES["fixed_small"].log_variance(self.schedule, t, x0)
        apart = normal_kl(posterior.mean(x0, seen.x_t), true_log_variance, mean, log_variance).flatten(1).mean(1)
        missed = -pixel_log_likelihood(x0, mean, 0.5 * log_variance).flatten(1).mean(1)
        return torch.where((t == 0).to(x0.device), missed.to(apart.dtype), apart) / math.log(2)

    def denoise(
        self,
        network: Network,
        x_t: Tensor,
        t: Tensor,
        text: Text | None = None,
        *,
        negative: Text | None = None,
        scale: float = 1.0,
        weaker: Network | None = None,
        rescale: float = 0.0,
        keep_in_range: Keep = static,
        own_noise: bool = False,
        correct_noise: CorrectNoise | None = None,
    ) -> Denoised:
        """What the network sees in x_t: guided, read from its prediction, kept in range.

        x_t: b c f h w; t: b, whole numbers in [0, num_timesteps); text, negative: entries with b in front
        scale, weaker, rescale: see `guide`; the rest: see `sample`
        """
        told = self.schedule.tell(t, x_t)
        output = guide(network, x_t, told, text, scale=scale, negative=negative, weaker=weaker, rescale=rescale)
        if correct_noise is not None:
            output = self._with_noise_corrected(output, x_t, t, correct_noise)
        return self.read(output, x_t, t, keep_in_range=keep_in_range, own_noise=own_noise)

    def sample(
        self,
        network: Network,
        x_T: Tensor,
        *,
        noise: Noise,
        text: Text | None = None,
        negative: Text | None = None,
        start: int | None = None,
        sampler: str = "ddim",
        eta: float = 0.0,
        guidance: Guidance = PLAIN,
        keep_in_range: Keep = static,
        own_noise: bool = False,
        correct_noise: CorrectNoise | None = None,
        put_in: Callable[[Tensor, int], Tensor] | None = None,
    ) -> Iterator[Step]:
        """Draw clips from noise through every level of this process; yields each step, the last x_t is the result.

        To take fewer steps than training has timesteps, sample from `visiting(space(schedule, spacing, num_steps))`.

        x_T: b c f h w, standard normal, or clips noised to timestep `start` (default: the last)
        noise: step -> standard normal values like x_T; see noises.py for what may be done to it
        sampler, eta: see samplers.py
        keep_in_range: estimate of the clean clip -> the one to go on with, such as those of threshold.py; what should
            happen before a clip or after it, such as rounding to known values, is composed with it here
        own_noise: let ddim and euler keep the noise that the network said even where keep_in_range changed its clip, as
            latent diffusion and Diffusers do; else it is what is left of x_t, as in improved diffusion
        correct_noise: (noise the network sees, x_t, t) -> the noise to go on with, save at a level without any signal.
            Latent diffusion's score corrector.
        put_in: (x_t, t) -> the noised clips to go on with, before the network sees them; see edits.py
        Names and start are checked at once, before the first step is asked for.
        """
        walk = choose(SAMPLERS, sampler, "sampler")
        start = self.num_timesteps - 1 if start is None else start
        if not 0 <= start < self.num_timesteps:
            raise SettingsError(f"start must be 0 to {self.num_timesteps - 1}, the timesteps of the walk, not {start}")

        @torch.no_grad()
        def denoise(x_t: Tensor, t: int) -> Denoised:
            if put_in is not None:
                x_t = put_in(x_t, t)
            sigma = float(self.schedule.level(t).sigma)
            return self.denoise(
                network,
                x_t,
                torch.full((len(x_t),), t),
                text,
                negative=negative,
                scale=guidance.scale_at(done=1 - t / start if start else 0.0, sigma=sigma),
                weaker=guidance.guide,
                rescale=guidance.rescale,
                keep_in_range=keep_in_range,
                own_noise=own_noise and sampler in HEAR_OWN_NOISE,
                correct_noise=correct_noise,
            )

        return walk(denoise, x_T, self.schedule, noise, start=start, eta=eta)

    def _bound_from(self, output: Tensor, x0: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        return self.bound_term(self.read(output, x_t, t), x0, t)

    def _with_noise_corrected(self, output: Tensor, x_t: Tensor, t: Tensor, correct: CorrectNoise) -> Tensor:
        said, values = self._halves(output, channels=x_t.shape[1])
        scales = Scales.of(self.schedule, t, x_t)
        corrected = correct(convert(said, x_t, scales, source=self.prediction, to="eps"), x_t, t)
        meant = convert(corrected, x_t, scales, source="eps", to=self.prediction)
        # Where there is no signal x_t is the noise, and no other noise in it would mean a clip.
        return torch.cat((torch.where(scales.alpha > 0, meant, said), values), dim=1)

    def _halves(self, output: Tensor, *, channels: int) -> tuple[Tensor, Tensor]:
        """What the network says of the mean, and of the variance: nothing, save where it learns that."""
        wanted = 2 * channels if self.learns_variance else channels
        if output.shape[1] != wanted:
            raise ValueError(
                f"variance {self.variance} takes {wanted} channels from the network, not {output.shape[1]}"
            )
        return output[:, :channels], output[:, channels:]
