"""One diffusion process: schedule, prediction and loss joined, for training and for drawing clips."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from t2v.diffusion.choose import choose
from t2v.diffusion.guidance import Network, Text, guide
from t2v.diffusion.losses import LOSSES
from t2v.diffusion.prediction import PREDICTIONS
from t2v.diffusion.samplers import SAMPLERS, Denoised, Noise, Step, spaced_times
from t2v.diffusion.schedule import SCHEDULES, Schedule, spread
from t2v.diffusion.threshold import THRESHOLDS


class GaussianDiffusion:
    """Noise clips, judge a network's answers, and draw clips with it. Owns no weights.

    A network is any callable (x_t, t, text) -> output; x_t: b c f h w, t: b, whole numbers, on x_t's device. Results
    follow the dtype and device of the clips passed in. An unknown name anywhere raises SettingsError.
    """

    def __init__(
        self, *, num_timesteps: int = 1000, schedule: str = "cosine", prediction: str = "eps", loss: str = "l1"
    ) -> None:
        self.num_timesteps = num_timesteps
        self.schedule = Schedule.from_betas(choose(SCHEDULES, schedule, "schedule")(num_timesteps))
        self.prediction = choose(PREDICTIONS, prediction, "prediction")
        self.loss = choose(LOSSES, loss, "loss")

    def add_noise(self, x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """Mix a clean clip with noise.

        x0, noise: b c f h w; x0 in [-1, 1]
        t: b, whole numbers in [0, num_timesteps); kept on the CPU it costs a GPU no waiting
        Ho et al. 2020, eq. 4.
        """
        alpha, sigma = self._scales(t, x0)
        return alpha * x0 + sigma * noise

    def losses(self, network: Network, x0: Tensor, t: Tensor, noise: Tensor, text: Text | None = None) -> Tensor:
        """How wrong the network is about each clip, averaged over its values: b, at least float32.

        x0, noise: b c f h w; t: b, whole numbers in [0, num_timesteps); text: entries with b in front
        Ho et al. 2020, eq. 14, with the chosen prediction and distance.
        """
        output = network(self.add_noise(x0, noise, t), t.to(x0.device), text)
        # In half precision the mean over a clip would lose the small differences.
        wide = torch.promote_types(torch.promote_types(output.dtype, x0.dtype), torch.float32)
        x0, noise = x0.to(wide), noise.to(wide)
        target = self.prediction.target(x0, noise, *self._scales(t, x0))
        return self.loss(output.to(wide), target).flatten(1).mean(1)

    def denoise(
        self,
        network: Network,
        x_t: Tensor,
        t: Tensor,
        text: Text | None = None,
        *,
        negative: Text | None = None,
        guidance_scale: float = 1.0,
        threshold: str = "static",
        percentile: float = 0.9,
    ) -> Denoised:
        """The clean clip that the network sees in x_t: guided, read from its prediction, kept in range.

        x_t: b c f h w; t: b, whole numbers in [0, num_timesteps); text, negative: entries with b in front
        """
        keep_in_range = choose(THRESHOLDS, threshold, "threshold")
        output = guide(network, x_t, t.to(x_t.device), text, guidance_scale=guidance_scale, negative=negative)
        x0 = self.prediction.x0(output, x_t, *self._scales(t, x_t))
        return Denoised(keep_in_range(x0, percentile=percentile))

    def sample(
        self,
        network: Network,
        x_T: Tensor,
        *,
        noise: Noise,
        text: Text | None = None,
        negative: Text | None = None,
        num_steps: int = 50,
        times: Sequence[int] | None = None,
        sampler: str = "ddim",
        eta: float = 0.0,
        guidance_scale: float = 1.0,
        threshold: str = "static",
        percentile: float = 0.9,
    ) -> Iterator[Step]:
        """Draw clips from noise; yields every step, and x_t of the last is the result.

        x_T: b c f h w, standard normal, or clips noised to times[0]
        noise: step -> standard normal values like x_T
        num_steps: 1 to num_timesteps, spaced by `spaced_times`; `times`, falling timesteps, says it exactly instead
        Names and num_steps are checked at once, before the first step is asked for.
        """
        walk = choose(SAMPLERS, sampler, "sampler")
        choose(THRESHOLDS, threshold, "threshold")
        if times is None:
            times = spaced_times(self.num_timesteps, num_steps)

        @torch.no_grad()
        def denoise(x_t: Tensor, t: int, t_next: int) -> Denoised:
            return self.denoise(
                network,
                x_t,
                torch.full((len(x_t),), t),
                text,
                negative=negative,
                guidance_scale=guidance_scale,
                threshold=threshold,
                percentile=percentile,
            )

        return walk(denoise, x_T, times, self.schedule, noise, eta=eta)

    def interpolate(
        self,
        network: Network,
        x1: Tensor,
        x2: Tensor,
        noises: tuple[Tensor, Tensor],
        *,
        t: int,
        weight: float,
        noise: Noise,
        text: Text | None = None,
        sampler: str = "ddpm",
        eta: float = 0.0,
        guidance_scale: float = 1.0,
        threshold: str = "static",
        percentile: float = 0.9,
    ) -> Iterator[Step]:
        """Draw clips between two: noise both to level t, mix them, and walk every level back from there.

        x1, x2 and noises, one for each: b c f h w; t: in [1, num_timesteps), higher keeps less of the two
        weight: 0 is x1, 1 is x2; the other arguments are those of `sample`
        Ho et al. 2020, figure 8.
        """
        levels = torch.full((len(x1),), t)
        mixed = torch.lerp(self.add_noise(x1, noises[0], levels), self.add_noise(x2, noises[1], levels), weight)
        return self.sample(
            network,
            mixed,
            # Mixing averages some of the noise away, so the walk starts one level lower.
            times=range(t - 1, -1, -1),
            noise=noise,
            text=text,
            sampler=sampler,
            eta=eta,
            guidance_scale=guidance_scale,
            threshold=threshold,
            percentile=percentile,
        )

    def _scales(self, t: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        level = self.schedule.level(t)
        return spread(level.alpha, like), spread(level.sigma, like)
