"""A model in one file: weights as safetensors, with all that is needed to use them as JSON in the header."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor
from torch.overrides import TorchFunctionMode

from t2v.checkpoint.atomic import file_sha256, write_atomically, write_tensors
from t2v.checkpoint.run_folder import RunFolder, StepFolder
from t2v.config import Recipe, Settings
from t2v.errors import CheckpointError, SettingsError
from t2v.model import Unet3D
from t2v.reading import validate

FORMAT_VERSION = 1
HEADER_KEY = "t2v"
BOX_NAME = "worlds.safetensors"


class Header(Settings):
    """What a checkpoint says of itself."""

    format_version: int = FORMAT_VERSION
    t2v_version: str
    recipe: Recipe
    cond_dim: int | None = Field(
        None, ge=1, le=65536, description="width of the pooled text vector; None for an unconditional model"
    )
    encoder_sha256: str | None = Field(None, description="hash of the text encoder's weights")
    frame_ms: float = Field(gt=0, allow_inf_nan=False, description="mean time between two frames in training")
    step: int = Field(ge=0, description="optimizer steps behind these weights")
    num_clips: int = Field(ge=0, description="clips it was trained on")
    still_share: float | None = Field(
        None, ge=0, lt=1, description="share of training on pictures, as clips of one frame; None where there was none"
    )
    half_size: bool = Field(False, description="whether it has seen clips at half their size, and no others yet")
    words: tuple[str, ...] = Field((), description="words of the captions it was trained on")
    example_prompts: tuple[str, ...] = Field((), description="prompts it can do")

    @property
    def size(self) -> int:
        """Width and height of the clips that it draws, in pixels."""
        return self.recipe.data.size // 2 if self.half_size else self.recipe.data.size


@dataclass(frozen=True)
class Checkpoint:
    """An opened checkpoint: header, weights by name, and the hash of the file."""

    path: Path
    header: Header
    weights: dict[str, Tensor]
    sha256: str

    @property
    def name(self) -> str:
        """What people know it by, such as `gifs/step-00000040`, without saying where on this machine it lies."""
        step = self.path.resolve().parent
        if not StepFolder.is_one(step):
            return self.path.name
        name = f"{step.parent.parent.name}/{step.name}"
        return name if self.path.name == StepFolder(step).ema.name else f"{name}/{self.path.name}"

    def network(self) -> Unet3D:
        """The network with these weights, float32, in evaluation mode on the CPU.

        Raises CheckpointError where the weights do not fit the settings in the header.
        """
        self.check_shapes()
        network = build_network(self.header.recipe, self.header.cond_dim)
        network.load_state_dict({name: tensor.float() for name, tensor in self.weights.items()})
        return network.eval()

    def check_shapes(self) -> None:
        """Raise CheckpointError where the weights do not fit the settings in the header.

        Compares with a network that takes no memory: the settings of a stranger may ask for more than there is.
        """
        with torch.device("meta"), _Undrawn():
            expected = build_network(self.header.recipe, self.header.cond_dim).state_dict()
        wrong = sorted(
            name
            for name in expected.keys() | self.weights.keys()
            if name not in expected or name not in self.weights or expected[name].shape != self.weights[name].shape
        )
        if wrong:
            others = f" and {len(wrong) - 1} others" if len(wrong) > 1 else ""
            raise CheckpointError(f"the weights in {self.path} do not fit its own settings: {wrong[0]!r}{others}")


class _Undrawn(TorchFunctionMode):
    """Memory in place of random numbers, which on the meta device make torch import its compiler: 2 s for nothing."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return (torch.empty if func is torch.randn else func)(*args, **(kwargs or {}))


def build_network(recipe: Recipe, cond_dim: int | None) -> Unet3D:
    """A network as the recipe describes it, with fresh weights from torch's global generator."""
    model, channels = recipe.model.model_dump(), recipe.data.channels
    out_dim = 2 * channels if recipe.diffusion.learns_variance else channels
    return Unet3D(model.pop("dim"), cond_dim=cond_dim, channels=channels, out_dim=out_dim, **model)


def save_checkpoint(path: Path, weights: Mapping[str, Tensor], header: Header) -> None:
    """Write weights and header as one file, whole or not at all. Raises CheckpointError for another ending."""
    if path.suffix != ".safetensors":
        raise CheckpointError(f"{path} must end in .safetensors")
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    metadata = {HEADER_KEY: header.model_dump_json()}
    write_atomically(path, lambda temporary: write_tensors(temporary, tensors, metadata))


def load_checkpoint(path: Path | str) -> Checkpoint:
    """Open a checkpoint file, a run folder (its newest step) or a step folder (its averaged weights).

    Nothing in the file is executed. Raises CheckpointError for a file that is missing, broken or of another kind.
    """
    file = resolve(Path(path))
    header = read_header(file)
    return Checkpoint(file, header, load_file(file), file_sha256(file))


def read_header(path: Path | str) -> Header:
    """The header alone, without reading the weights. Raises CheckpointError as load_checkpoint does."""
    file = resolve(Path(path))
    try:
        with safe_open(file, framework="pt") as opened:
            metadata = opened.metadata() or {}
    except (SafetensorError, OSError) as error:
        hint = "; bring it in with `t2v import`" if file.suffix.lower() in {".pt", ".pth", ".ckpt"} else ""
        raise CheckpointError(f"{file} is not a whole safetensors file ({error}){hint}") from None
    if HEADER_KEY not in metadata:
        raise CheckpointError(f"{file} is a safetensors file, but not one that t2v wrote; try `t2v import`")
    try:
        fields = json.loads(metadata[HEADER_KEY])
        version = fields.get("format_version")
    except (ValueError, RecursionError, AttributeError):  # ValueError also for numbers of thousands of digits
        raise CheckpointError(f"the header of {file} is not the JSON that t2v writes") from None
    if version != FORMAT_VERSION:
        raise CheckpointError(
            f"{file} has format {version}; this t2v reads format {FORMAT_VERSION}, another version of t2v may read it"
        )
    try:
        return validate(Header, fields, source=f"the header of {file}")
    except SettingsError as error:
        raise CheckpointError(str(error)) from None


def resolve(path: Path) -> Path:
    """The weights file meant by a path: itself, or the averaged weights of a run's or a step's folder."""
    if path.is_file():
        return path
    wanted = "a .safetensors file, a run folder or a step of it"
    if not path.exists():
        raise CheckpointError(f"there is no checkpoint {path}; name {wanted}")
    if StepFolder.is_one(path):
        if not StepFolder(path).is_whole():
            raise CheckpointError(f"{path} is damaged or not wholly copied; name its run folder or another step")
        return StepFolder(path).ema
    step = RunFolder(path).newest_step()
    if step is None:
        damaged = ", only damaged ones" if RunFolder(path).steps() else ""
        raise CheckpointError(f"{path} holds no saved step{damaged}; name {wanted}")
    return step.ema


def box_path() -> Path:
    """The model in the box. Raises CheckpointError where this installation lacks it."""
    path = Path(str(resources.files("t2v.checkpoints") / BOX_NAME))
    if not path.is_file():
        raise CheckpointError("this installation has no model in the box; name one with --checkpoint")
    return path


def as_bfloat16(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights at half the size, for a model that is only sampled from."""
    return {name: t.to(torch.bfloat16) if t.dtype == torch.float32 else t for name, t in weights.items()}
