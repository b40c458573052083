"""Which of a process's levels a walk visits, and what the network is told there.

A spacing takes the schedule of training and a number of steps, and returns the schedule of a process that has only
the levels of the walk. Where the originals agree on a name but not on the timesteps, each has a name of its own here.
"""

import re
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from t2v.diffusion.choose import choose
from t2v.diffusion.schedule import Schedule
from t2v.errors import SettingsError

SECTIONS = re.compile(r"\d+(,\d+)+")
STRIDED = re.compile(r"ddim(\d+)")
KARRAS_RHO = 7.0


def space(schedule: Schedule, spacing: str, num_steps: int) -> Schedule:
    """The process that a walk of num_steps steps visits.

    spacing: a name of SPACINGS; or sections such as "10,15,20", that many steps in each equal part of the timesteps,
        the cleanest first; or "ddim25", every k-th timestep with the k that gives 25. Those two say the number of steps
        themselves, and num_steps is not heard.
    Raises SettingsError for what cannot be.
    """
    strided = STRIDED.fullmatch(spacing)
    if strided:
        return visiting(schedule, _strided(schedule.num_timesteps, int(strided[1])))
    if SECTIONS.fullmatch(spacing):
        return visiting(schedule, _in_sections(schedule.num_timesteps, [int(part) for part in spacing.split(",")]))
    place = choose(SPACINGS, spacing, "spacing")
    if not 1 <= num_steps <= schedule.num_timesteps:
        raise SettingsError(
            f"num_steps must be 1 to {schedule.num_timesteps}, the timesteps of training, not {num_steps}"
        )
    return place(schedule, num_steps)


def says_its_steps(spacing: str) -> bool:
    """Whether the spacing itself says how many steps there are."""
    return bool(STRIDED.fullmatch(spacing) or SECTIONS.fullmatch(spacing))


def visiting(schedule: Schedule, times: Sequence[int], *, end: float = 1.0) -> Schedule:
    """The process that visits only these timesteps, whole numbers in rising order."""
    chosen = torch.as_tensor(times)
    return schedule.at_levels(schedule.alphas_cumprod[chosen], schedule.told[chosen], end=end)


def trailing(schedule: Schedule, num_steps: int) -> Schedule:
    """Evenly spaced from the noisiest timestep on.

    The walk starts from pure noise, so its first step must stand where training saw (nearly) pure noise: spacings
    that start lower tell the network of signal that is not there. Lin et al. 2024, section 3.3.
    """
    num_timesteps = schedule.num_timesteps
    return visiting(schedule, [round(num_timesteps * count / num_steps) - 1 for count in range(1, num_steps + 1)])


def leading(schedule: Schedule, num_steps: int) -> Schedule:
    """Evenly spaced from timestep 0 on, short of the noisiest: what Diffusers' DDIM takes unless told otherwise."""
    stride = schedule.num_timesteps // num_steps
    return visiting(schedule, range(0, stride * num_steps, stride))


def uniform(schedule: Schedule, num_steps: int) -> Schedule:
    """Latent diffusion's: every k-th timestep from 1 on, ending at the level of timestep 0, which is never quite clean.

    Where num_steps does not divide the timesteps it takes some steps more. Rombach et al. 2022, code.
    """
    return _ending_noised(schedule, range(1, schedule.num_timesteps + 1, schedule.num_timesteps // num_steps))


def quadratic(schedule: Schedule, num_steps: int) -> Schedule:
    """Latent diffusion's "quad": squares of an even spacing, over the cleaner 80% of the timesteps.

    Many steps visit the cleanest levels more than once. Song et al. 2021, appendix D.2; Rombach et al. 2022, code.
    """
    roots = np.linspace(0, np.sqrt(schedule.num_timesteps * 0.8), num_steps)
    return _ending_noised(schedule, [int(root**2) + 1 for root in roots])


def even(schedule: Schedule, num_steps: int) -> Schedule:
    """Evenly spaced over all timesteps, both ends visited: improved diffusion's by count."""
    return visiting(schedule, _in_sections(schedule.num_timesteps, [num_steps]))


def linspace(schedule: Schedule, num_steps: int) -> Schedule:
    """Evenly spaced over all timesteps, both ends visited, at fractions of timesteps: Diffusers' Euler and Heun.

    Between two timesteps the ratio sigma / alpha goes in a line.
    """
    if num_steps == schedule.num_timesteps:
        return schedule
    times = torch.linspace(schedule.num_timesteps - 1, 0, num_steps, dtype=torch.float64).flip(0).numpy()
    ratio = np.interp(times, range(schedule.num_timesteps), schedule.noise_ratio)
    return schedule.at_levels(_kept(torch.from_numpy(ratio)), _told_between(schedule, times))


def linspace_rounded(schedule: Schedule, num_steps: int) -> Schedule:
    """Evenly spaced from the noisiest timestep on, timestep 0 left out: Diffusers' DPM-Solver++ and UniPC."""
    times = np.linspace(0, schedule.num_timesteps - 1, num_steps + 1).round()[1:]
    return visiting(schedule, times.astype(int).tolist())


def karras(schedule: Schedule, num_steps: int) -> Schedule:
    """The ratio sigma / alpha to the power 1/7 goes in a line; the network is told fractions of timesteps.

    Karras et al. 2022, eq. 5; the fraction is read from log(sigma / alpha), as Diffusers' Heun does.
    Raises SettingsError where alpha is 0 at the noisiest level.
    """
    ratio, times = _karras_levels(schedule, num_steps)
    return schedule.at_levels(_kept(ratio), _told_between(schedule, times))


def karras_rounded(schedule: Schedule, num_steps: int) -> Schedule:
    """`karras` with the network told of the nearest whole timestep: Diffusers' DPM-Solver++ and UniPC."""
    ratio, times = _karras_levels(schedule, num_steps)
    return schedule.at_levels(_kept(ratio), _told_between(schedule, times.round()))


def _karras_levels(schedule: Schedule, num_steps: int) -> tuple[Tensor, np.ndarray]:
    """sigma / alpha of each level, and the fractional timesteps where the schedule has it."""
    known = schedule.noise_ratio
    if not known[-1].isfinite():
        raise SettingsError(
            "spacing karras needs some signal at every level, and zero_terminal_snr leaves none; take trailing"
        )
    low, high = known[[0, -1]] ** (1 / KARRAS_RHO)
    ratio = torch.linspace(float(high), float(low), num_steps, dtype=torch.float64).flip(0) ** KARRAS_RHO
    return ratio, np.interp(ratio.log().numpy(), known.log(), range(schedule.num_timesteps))


def _told_between(schedule: Schedule, times: np.ndarray) -> Tensor:
    """What the network is told at fractions of timesteps."""
    return torch.from_numpy(np.interp(times, range(schedule.num_timesteps), schedule.told))


def _ending_noised(schedule: Schedule, times: Sequence[int]) -> Schedule:
    if times[-1] >= schedule.num_timesteps:
        raise SettingsError(
            f"this spacing visits timestep {times[-1]} with so many steps, and the last is"
            f" {schedule.num_timesteps - 1}; take fewer steps, or spacing trailing"
        )
    return visiting(schedule, times, end=float(schedule.alphas_cumprod[0]))


def _strided(num_timesteps: int, num_steps: int) -> range:
    """Nichol & Dhariwal's "ddimN": every k-th timestep from 0 on."""
    for stride in range(1, num_timesteps):
        if len(range(0, num_timesteps, stride)) == num_steps:
            return range(0, num_timesteps, stride)
    raise SettingsError(f"no whole stride through {num_timesteps} timesteps makes {num_steps} steps; take trailing")


def _in_sections(num_timesteps: int, counts: Sequence[int]) -> list[int]:
    """Nichol & Dhariwal's respacing: counts[i] timesteps, evenly spaced, both ends of the section visited."""
    size, longer = divmod(num_timesteps, len(counts))
    times, start = [], 0
    for place, count in enumerate(counts):
        section = size + (1 if place < longer else 0)
        if not 1 <= count <= section:
            raise SettingsError(f"a section of {section} timesteps takes 1 to {section} steps, not {count}")
        stride = 1.0 if count == 1 else (section - 1) / (count - 1)
        at = 0.0
        for _ in range(count):
            times.append(start + round(at))
            at += stride
        start += section
    return times


def _kept(noise_ratio: Tensor) -> Tensor:
    """alphas_cumprod of levels given as sigma / alpha."""
    return 1 / (1 + noise_ratio**2)


SPACINGS: dict[str, Callable[[Schedule, int], Schedule]] = {
    "trailing": trailing,
    "leading": leading,
    "even": even,
    "uniform": uniform,
    "quadratic": quadratic,
    "linspace": linspace,
    "linspace_rounded": linspace_rounded,
    "karras": karras,
    "karras_rounded": karras_rounded,
}
