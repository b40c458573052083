"""The log and the sample sheets once more, where TensorBoard shows them."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from t2v.config import TrainSettings
from t2v.errors import SettingsError

SCALARS = ("loss", "learning_rate", "grad_norm", "loss_scale")  # as they are called in the log


def check_tensorboard(settings: TrainSettings) -> None:
    """Raise SettingsError where TensorBoard is asked for and its package is not there."""
    if settings.tensorboard and find_spec("tensorboard") is None:
        raise SettingsError(
            "train.tensorboard needs the tensorboard package, which is not installed; "
            "pip install 't2v[tensorboard]', or leave it out"
        )


class Events:
    """The event file that one start of a run writes beside those of the starts before it.

    It is torch's own writer. Accelerate's tracker wraps the same one, but puts a folder in between and wants to be made
    together with the accelerator, before it is known which step the run goes on from.
    """

    def __init__(self, folder: Path, *, step: int, seconds: float, clips_per_step: int) -> None:
        """step, seconds: how far the run is. What other starts wrote of later steps is hidden: they are taken again."""
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder), purge_step=step + 1)
        self._step, self._seconds = step, seconds
        self._clips_per_step = clips_per_step

    def add_line(self, line: Mapping[str, Any]) -> None:
        """Add what a line of the log says, and the rate since the line before it."""
        step, seconds = line["step"], line["seconds"]
        for name in SCALARS:
            if line.get(name) is not None:
                self._writer.add_scalar(name, line[name], step)
        if seconds > self._seconds:
            rate = (step - self._step) * self._clips_per_step / (seconds - self._seconds)
            self._writer.add_scalar("clips_per_second", rate, step)
        self._step, self._seconds = step, seconds

    def add_sheet(self, step: int, picture: Path) -> None:
        """Add the sample sheet that was drawn after `step`."""
        with Image.open(picture) as sheet:
            self._writer.add_image("samples", np.asarray(sheet.convert("RGB")), step, dataformats="HWC")

    def flush(self) -> None:
        """Hand all that was added to the disk."""
        self._writer.flush()

    def close(self) -> None:
        """Hand all that was added to the disk, and end."""
        self._writer.close()
