"""One place that turns settings into clips, for the command line, the page and everything else."""

import json
import secrets
import tempfile
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import t2v
from t2v.checkpoint import Checkpoint, Header, box_path, load_checkpoint
from t2v.config import GenerationSettings
from t2v.data.video_files import check_ending, write_clip
from t2v.data.words import is_filled, unseen_sentence, words_of
from t2v.diffusion.samplers import HEAR_ETA, HEAR_OWN_NOISE
from t2v.diffusion.spacing import says_its_steps, space
from t2v.errors import ClipError, GenerationError, TextEncoderError
from t2v.model.text import TextEncoder, TextFeatures, joined
from t2v.runtime import Precision, choose_precision, pick_device
from t2v.sampling import SamplingStep, build_diffusion, sample_clips, to_uint8, told

MAX_DRAWN_SEED = 2**32  # short enough to read out and type again
MIN_FPS, MAX_FPS = 0.01, 50.0  # what a GIF can show
MAX_WEBP_FPS = 90.0  # beyond, a frame of whole milliseconds may be one of 10, which browsers show for 100
# Bounds on an enlarged file: what every format takes, and memory that a laptop has.
MAX_FILE_SIDE = 4096
MAX_FILE_PIXELS = 1 << 28
MAX_KEPT_TEXTS = 1000  # encoded ones, of some 20 kB each
MAX_NAME_BYTES = 100  # of a prompt's words in a file's name; file systems end at 255


@dataclass(frozen=True)
class GeneratedClip:
    """A finished clip and all that is needed to make it again.

    frames: uint8 f h w c; settings: as used, nothing left open; index: which clip of its request, from 0
    """

    frames: np.ndarray
    frame_ms: float
    settings: GenerationSettings
    index: int
    seconds: float
    checkpoint: str
    checkpoint_sha256: str
    device: str
    precision: str
    guide: str | None = None
    guide_sha256: str | None = None

    @property
    def seed(self) -> int:
        assert self.settings.seed is not None
        return self.settings.seed

    def metadata(self) -> str:
        """JSON that t2v writes into files and reads back from them."""
        content = {
            "made_by": f"t2v {t2v.__version__}",
            **self.settings.model_dump(mode="json"),
            "clip": self.index,
            "checkpoint": self.checkpoint,
            "checkpoint_sha256": self.checkpoint_sha256,
            "device": self.device,
            "precision": self.precision,
        }
        if self.guide is not None:
            content |= {"guide": self.guide, "guide_sha256": self.guide_sha256}
        return json.dumps(content, ensure_ascii=False)


@dataclass(frozen=True)
class GenerationStep:
    """One denoising step. finished holds the clips that this step completed, usually none."""

    clips: range
    index: int
    num_steps: int
    x0: Tensor
    finished: tuple[GeneratedClip, ...] = ()

    def preview(self) -> np.ndarray:
        """The step's estimate of its clips: uint8 b f h w c."""
        return to_uint8(self.x0).numpy()


class GenerationService:
    """A model loaded once, from which any number of clips are made."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        guide: Checkpoint | None = None,
        device: str = "auto",
        precision: str = "fp32",
    ) -> None:
        self.checkpoint = checkpoint
        self.header = checkpoint.header
        self.device = pick_device(device)
        self.network = checkpoint.network().to(self.device).requires_grad_(False)
        self.guide = guide
        self.guide_network = None
        if guide is not None:
            check_guide(guide, checkpoint)
            self.guide_network = guide.network().to(self.device).requires_grad_(False)
        self.diffusion = build_diffusion(self.header.recipe)
        self.precision = self._choose_precision(precision)
        self._features: dict[str, TextFeatures] = {}

    @classmethod
    def load(
        cls,
        path: Path | str | None = None,
        *,
        guide: Path | str | None = None,
        device: str = "auto",
        precision: str = "fp32",
    ) -> "GenerationService":
        """Load a checkpoint file, run folder or step folder; None takes the model in the box.

        guide: a weaker model of the same kind, away from which clips are guided (autoguidance)
        Raises GenerationError where the two do not go together.
        """
        weaker = None if guide is None else load_checkpoint(guide)
        return cls(load_checkpoint(path or box_path()), guide=weaker, device=device, precision=precision)

    @cached_property
    def encoder(self) -> TextEncoder:
        """The text encoder the checkpoint was trained with. Raises TextEncoderError where it is not to be had."""
        text = self.header.recipe.text
        encoder = TextEncoder.load(
            text.encoder,
            pooling=text.pooling,
            max_tokens=text.max_tokens,
            precision=text.encoder_precision,
            device="cpu",
        )
        if encoder.dim != self.header.cond_dim:
            raise TextEncoderError(
                f"{self.checkpoint.name} takes text vectors of width {self.header.cond_dim}, but {text.encoder} gives "
                f"{encoder.dim}; the encoder that it was trained with is needed"
            )
        wanted = self.header.encoder_sha256
        if wanted not in (None, encoder.fingerprint):
            raise TextEncoderError(
                f"{self.checkpoint.name} was trained with other weights of {text.encoder} than the {encoder.source} "
                f"holds; those with sha256 {wanted} are needed"
            )
        return encoder

    def warm_up(self) -> None:
        """Load what the first clip would otherwise wait for."""
        if self.header.cond_dim is not None:
            self._encode("")

    def resolve(self, settings: GenerationSettings) -> GenerationSettings:
        """The settings with nothing left open. Raises GenerationError for what this model cannot do."""
        data, model = self.header.recipe.data, self.header.recipe.model
        size = settings.size or self.header.size
        if size % model.size_step:
            near = max(-(-8 // model.size_step), round(size / model.size_step)) * model.size_step
            raise GenerationError(
                f"size must be a multiple of {model.size_step} with this model, not {size}; try {near}"
            )
        if not settings.prompt.strip() and self.header.cond_dim is not None:
            examples = ", ".join(repr(prompt) for prompt in self.header.example_prompts[:3])
            raise GenerationError(f"the prompt is empty; say what to draw{', such as ' + examples if examples else ''}")
        walk = space(self.diffusion.schedule, settings.spacing, settings.num_steps)
        num_frames = settings.num_frames or data.num_frames
        fps = 1000 / self._trained_frame_ms(num_frames)
        return settings.model_copy(
            update={
                "num_steps": walk.num_timesteps if says_its_steps(settings.spacing) else settings.num_steps,
                "num_frames": num_frames,
                "size": size,
                "seed": secrets.randbelow(MAX_DRAWN_SEED) if settings.seed is None else settings.seed,
                "fps": settings.fps or float(f"{min(max(fps, MIN_FPS), MAX_FPS):.6g}"),
            }
        )

    def hints(self, settings: GenerationSettings) -> list[str]:
        """What a person should know about this request, in sentences; an empty list where all is as trained."""
        data = self.header.recipe.data
        hints = []
        if self.header.cond_dim is None and (settings.prompt + settings.negative).strip():
            hints.append("this model was trained without captions, so no text has an effect")
        if settings.size not in (None, self.header.size):
            hints.append(f"this model was trained at {self.header.size} pixels; {settings.size} may look wrong")
        learned_steps = self.diffusion.num_timesteps
        if self.diffusion.prediction == "previous" and settings.num_steps != learned_steps:
            hints.append(
                f"this model says the clip one of its {learned_steps} steps cleaner, and fewer steps draw it wrongly; "
                f"take sampler ddpm in {learned_steps} steps"
            )
        draws_still = settings.num_frames == 1 and self.header.still_share
        fewest, most = data.lengths or (data.num_frames, data.num_frames)
        if settings.num_frames is not None and not fewest <= settings.num_frames <= most and not draws_still:
            trained_on = f"{fewest} to {most}" if fewest < most else f"{most}"
            hints.append(f"this model was trained on {trained_on} frames; {settings.num_frames} may look wrong")
        hints += _unheard(settings)
        if self.header.cond_dim is not None:
            if settings.negative.strip() and set(settings.guidance_scales) == {1}:
                hints.append("at guidance_scale 1 the negative text has no effect; try 2")
            if settings.negative.strip() and self.guide is not None:
                hints.append("with a guide the negative text has no effect")
            hints += self._unlike_captions(settings)
        return hints

    def _unlike_captions(self, settings: GenerationSettings) -> list[str]:
        """What sets the prompt apart from the captions of training, in sentences."""
        hints = []
        template = self.header.recipe.text.template
        if settings.prompt.strip() and not is_filled(template, settings.prompt):
            hints.append(f"the captions of training read {template!r}, and this prompt is used as it is typed")
        unseen = unseen_sentence(f"{settings.prompt} {settings.negative}", self.header.words)
        return hints + ([unseen] if unseen else [])

    def generate(self, settings: GenerationSettings) -> Generator[GenerationStep, None, None]:
        """Make the clips asked for, yielding every denoising step; closing the iterator stops the work.

        The seed used is in the finished clips. Raises GenerationError for what this model cannot do.
        """
        used = self.resolve(settings)
        yield from self._draw([used] * used.num_clips)

    def generate_each(self, asked: Sequence[GenerationSettings]) -> Generator[GenerationStep, None, None]:
        """Make the first clip of each of these, as many at once as suit the device; all else is as in `generate`.

        asked: they differ in prompt and seed alone
        """
        used = [self.resolve(one) for one in asked]
        alike = {one.model_copy(update={"prompt": "", "seed": 0}).model_dump_json() for one in used}
        assert len(alike) == 1, "clips are drawn together only with equal settings"
        yield from self._draw(used, seeds=[one.seed for one in used if one.seed is not None])

    def _draw(
        self, asked: Sequence[GenerationSettings], *, seeds: Sequence[int] | None = None
    ) -> Generator[GenerationStep, None, None]:
        """Make clips of resolved settings that differ in prompt and seed alone; without seeds, those of one request."""
        used, data = asked[0], self.header.recipe.data
        assert used.num_frames is not None and used.size is not None and used.seed is not None and used.fps is not None
        conditional = self.header.cond_dim is not None
        text = joined([self._encode(one.prompt) for one in asked]) if conditional else None
        negative = self._encode(used.negative) if conditional and used.negative.strip() else None
        steps = sample_clips(
            self.network,
            self.diffusion,
            text=text,
            negative=negative,
            guide=self.guide_network,
            num_clips=len(asked),
            shape=(data.channels, used.num_frames, used.size, used.size),
            seed=used.seed,
            seeds=seeds,
            settings=used,
            interval_ms=1000 / used.fps,
            precision=self.precision.name,
        )
        started = time.perf_counter()
        for step in _in_memory(steps, used):
            finished: tuple[GeneratedClip, ...] = ()
            if step.is_last:
                seconds = (time.perf_counter() - started) / len(step.clips)
                frames = to_uint8(step.x_t).numpy()
                finished = tuple(
                    GeneratedClip(
                        frames=frames[place],
                        frame_ms=1000 / used.fps,
                        settings=asked[clip],
                        index=clip if seeds is None else 0,
                        seconds=seconds,
                        checkpoint=self.checkpoint.name,
                        checkpoint_sha256=self.checkpoint.sha256,
                        device=self.device.type,
                        precision=self.precision.name,
                        guide=None if self.guide is None else self.guide.name,
                        guide_sha256=None if self.guide is None else self.guide.sha256,
                    )
                    for place, clip in enumerate(step.clips)
                )
                started = time.perf_counter()
            yield GenerationStep(step.clips, step.index, step.num_steps, step.x0, finished)

    def text(self, captions: Sequence[str], *, num_frames: int) -> dict[str, Tensor] | None:
        """What training tells the network of clips with these captions and so many frames.

        An empty caption is no text; None for a model without.
        """
        if self.header.cond_dim is None:
            return None
        features = joined([self._encode(caption) for caption in captions])
        is_null = torch.tensor([not caption for caption in captions])
        return told(features, self._trained_interval_ms(num_frames), self.device) | {"is_null": is_null.to(self.device)}

    def _trained_interval_ms(self, num_frames: int) -> float | None:
        """What training tells of the time from frame to frame of clips of so many frames; nothing of single ones."""
        return None if num_frames == 1 else self._trained_frame_ms(num_frames)

    def _trained_frame_ms(self, num_frames: int) -> float:
        """How long clips of so many frames show each of them in training, in ms."""
        data = self.header.recipe.data
        # Trained on clips of any length, each spread over its time, the network sees more frames of the same time.
        is_spread = data.lengths is not None and data.fps is None
        return self.header.frame_ms * (data.num_frames / num_frames if is_spread else 1)

    def _encode(self, text: str) -> TextFeatures:
        """Those of one text, computed once; the oldest of MAX_KEPT_TEXTS makes room for a new one."""
        features = self._features.get(text)
        if features is None:
            features = self._features[text] = self.encoder.encode([text])
            while len(self._features) > MAX_KEPT_TEXTS:
                del self._features[next(iter(self._features))]
        return features

    def _choose_precision(self, name: str) -> Precision:
        if name != "auto":
            return Precision(name, "as asked")
        data = self.header.recipe.data
        size = self.header.size
        x = torch.zeros(2, data.channels, data.num_frames, size, size, device=self.device)
        t = torch.zeros(2, dtype=torch.long, device=self.device)

        def run(bf16: bool) -> Tensor:
            with torch.inference_mode(), torch.autocast(self.device.type, torch.bfloat16, enabled=bf16):
                return self.network(x, t).cpu()

        return choose_precision(run, on_cpu=self.device.type == "cpu")


def _unheard(settings: GenerationSettings) -> list[str]:
    """What was changed but has no effect with the sampler and threshold chosen, in sentences."""
    hints = []
    if settings.eta > 0 and settings.sampler not in HEAR_ETA:
        hints.append(f"sampler {settings.sampler} takes no eta; {', '.join(HEAR_ETA)} do")
    calm = settings.sampler != "ddpm" and (settings.eta == 0 or settings.sampler not in HEAR_ETA)
    if calm and (settings.temperature != 1 or settings.noise_dropout > 0):
        hints.append("this sampler adds no fresh noise for temperature or noise_dropout to change; ddpm or an eta does")
    if settings.own_noise and settings.sampler not in HEAR_OWN_NOISE:
        hints.append(f"sampler {settings.sampler} has no use for own_noise; {' and '.join(HEAR_OWN_NOISE)} have")
    return hints


def _in_memory(steps: Iterator[SamplingStep], used: GenerationSettings) -> Iterator[SamplingStep]:
    """The steps; where the machine's memory does not suffice, an error that says what would."""
    try:
        yield from steps
    except (MemoryError, RuntimeError) as error:
        # On the CPU torch says so in words only.
        if not isinstance(error, (MemoryError, torch.OutOfMemoryError)) and "allocate memory" not in str(error):
            raise
        raise GenerationError(
            f"{used.num_frames} frames of {used.size} pixels need more memory than is free; "
            "try fewer frames or a smaller size"
        ) from None


def check_guide(guide: Checkpoint, checkpoint: Checkpoint) -> None:
    """Raise GenerationError unless one model can guide the other: both must hear and say the same things."""
    ours, theirs = checkpoint.header, guide.header
    if _process(theirs) != _process(ours):
        what = "another diffusion process"
    elif theirs.recipe.data.channels != ours.recipe.data.channels:
        what = f"{theirs.recipe.data.channels} channels"
    elif _heard(theirs) != _heard(ours):
        what = "another text encoder" if theirs.cond_dim else "no captions"
    else:
        return
    raise GenerationError(
        f"{guide.name} was trained with {what} and cannot guide {checkpoint.name}; take an earlier step of the same "
        "run, or a smaller model trained on the same clips"
    )


def _process(header: Header) -> dict[str, object]:
    """What a network's answers mean; how its loss was weighed is its own affair."""
    return header.recipe.diffusion.model_dump(
        exclude={"loss", "bound_weight", "weighting", "weighting_gamma", "motion_weight", "timesteps"}
    )


def _heard(header: Header) -> tuple[object, ...]:
    """What its text vectors depend on."""
    text = header.recipe.text
    return (header.cond_dim, header.encoder_sha256, text.pooling, text.encoder_precision) if header.cond_dim else ()


def check_target(path: Path, *, fps: float | None = None) -> None:
    """Raise ClipError unless a clip can be written to `path`, so that nothing is drawn in vain; makes no file.

    fps: as it was asked for; where that is left open, every format can show it
    """
    check_ending(path)
    ending = path.suffix.lower()
    if ending == ".gif" and fps is not None and not MIN_FPS <= fps <= MAX_FPS:
        raise ClipError(f"a GIF shows {MIN_FPS:g} to {MAX_FPS:g} frames a second, not {fps:g}; write .mp4 or .webm")
    if ending == ".webp" and fps is not None and fps > MAX_WEBP_FPS:
        raise ClipError(f"a WebP shows at most {MAX_WEBP_FPS:g} frames a second, not {fps:g}; write .mp4 or .webm")
    if path.is_dir():
        raise ClipError(f"{path} is a folder; name a file in it, such as {path / ('clip' + path.suffix)}")
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    try:
        # Rights alone do not tell: a disk may be mounted for reading only.
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise ClipError(f"{path} cannot be written: {folder}: {error.strerror}") from None


def check_scale(scale: int, used: GenerationSettings) -> None:
    """Raise GenerationError where clips of resolved settings, enlarged so much, would fill the memory."""
    num_frames, size = used.num_frames, used.size
    assert num_frames is not None and size is not None
    most = min(MAX_FILE_SIDE // size, int((MAX_FILE_PIXELS / num_frames) ** 0.5) // size)
    if scale > most:
        raise GenerationError(f"scale must be at most {most} for {num_frames} frames of {size} pixels, not {scale}")


def save_clip(clip: GeneratedClip, path: Path, *, scale: int = 1, with_metadata: bool = True) -> None:
    """Write a clip in the format of the path's ending, each pixel enlarged to scale x scale.

    A folder that is missing is made, a file that is there replaced. Raises ClipError where that is impossible.
    """
    frames = clip.frames.repeat(scale, axis=1).repeat(scale, axis=2)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ClipError(f"{path} cannot be written: {error.strerror}") from None
    write_clip(path, frames, frame_ms=clip.frame_ms, metadata=clip.metadata() if with_metadata else None)


def file_stem(clip: GeneratedClip) -> str:
    """A file's name without its ending: the prompt's words, the seed, and which clip of several."""
    words = "-".join(words_of(clip.settings.prompt)).encode()[:MAX_NAME_BYTES].decode(errors="ignore").strip("-")
    return f"{words or 'clip'}-{clip.seed}" + (f"-{clip.index + 1}" if clip.settings.num_clips > 1 else "")


def free_path(folder: Path, clip: GeneratedClip, *, suffix: str = ".gif") -> Path:
    """A path in `folder` with the clip's name at which there is no file yet."""
    stem = file_stem(clip)
    number, path = 1, folder / f"{stem}{suffix}"
    while path.exists():
        number += 1
        path = folder / f"{stem}-take{number}{suffix}"
    return path
