"""Every setting once: its type, range, default and help. Nothing here imports torch."""

import math
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

DEFAULT_ENCODER = "sentence-transformers/all-MiniLM-L6-v2"
CAPTION_PLACEHOLDER = "{caption}"
NUM_HELD_OUT = 256  # real clips that an evaluation looks at, at most
NUM_KNOWN = 2000  # clips of training that it searches for copies, at most
MAX_SEED = 2**53 - 1  # exact in JSON and in JavaScript, so that a page never rounds a seed

SpatialAttentionName = Literal["linear", "full", "none"]
ScheduleName = Literal["cosine", "cosine_0.999", "linear", "linspace", "scaled_linear", "sigmoid"]
TellingName = Literal["index", "thousand", "fraction"]
PredictionName = Literal["eps", "v", "x0", "previous"]
VarianceName = Literal["fixed_small", "fixed_tiny", "fixed_large", "learned", "learned_range"]
LossName = Literal["l1", "l2", "huber", "kl", "rescaled_kl"]
WeightingName = Literal["none", "min_snr", "p2", "velocity", "balanced"]
TimestepsName = Literal["even", "loss_second_moment"]
SamplerName = Literal["ddim", "ddpm", "dpmpp_2m", "dpmpp_3m", "euler", "heun", "heun_everywhere", "unipc"]
SpacingName = Literal[
    "trailing", "leading", "even", "uniform", "quadratic", "linspace", "linspace_rounded", "karras", "karras_rounded"
]
ThresholdName = Literal["static", "dynamic", "none"]
PrecisionName = Literal["auto", "fp32", "bf16", "fp16"]
CompileName = Literal["auto", "never", "always"]
OptimizerName = Literal["adamw", "muon", "adamw8bit"]
DecayName = Literal["constant", "cosine", "linear"]
AverageDeviceName = Literal["same", "cpu"]
DeviceName = Literal["auto", "cpu", "cuda", "mps"]
FitName = Literal["crop", "pad", "stretch"]
WindowName = Literal["head", "random", "every"]
ShortName = Literal["loop", "mirror", "hold"]
StillsName = Literal["joint", "repeat", "leave_out"]
FormatName = Literal["gif", "webp", "png", "jpeg", "mp4", "mov", "webm", "mkv", "avi", "frames"]
PoolingName = Literal["mean", "first"]
EncoderPrecisionName = Literal["fp32", "int8", "nf4"]
RecipeName = Literal["tiny", "small", "base", "seed"]
FamilyName = Literal["shapes", "fireworks", "weather", "suns", "waves", "candles", "rockets", "pendulums"]
SplitName = Literal["seen", "unseen-combinations", "unseen-wordings", "all"]
MeasureName = Literal["alignment", "likelihood", "likeness"]
PresetName = Literal["draft", "normal", "best"]


class Settings(BaseModel):
    """Frozen, and strict about names: a misspelled key is an error, never a silent default.

    Numbers are finite, as JSON, in which headers and plans are kept, has no others.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class DataSettings(Settings):
    """What a clip becomes before the network sees it."""

    size: int = Field(64, ge=8, le=512, description="width and height of a clip in pixels")
    num_frames: int = Field(
        10, ge=1, le=128, description="frames of a clip, chosen evenly over its time or, with fps, one after another"
    )
    lengths: tuple[int, int] | None = Field(
        None,
        description="fewest and most frames of the clips that training shows, so that others than num_frames can be "
        "drawn; each step takes a number between (default: num_frames alone)",
    )
    fps: float | None = Field(
        None, gt=0, le=240, description="frames a second that training sees (default: spread over each clip's time)"
    )
    window: WindowName | None = Field(
        None,
        description="with fps, what is seen of a clip longer than num_frames: its head, a random window each time, or "
        "every window in turn (default: random)",
    )
    short: ShortName | None = Field(
        None,
        description="with fps, how a clip shorter than num_frames goes on: loop, mirror (back and forth) or hold its "
        "last frame (default: loop)",
    )
    formats: tuple[FormatName, ...] = Field(
        get_args(FormatName),
        min_length=1,
        description="which formats are clips, by content; frames is a folder of numbered pictures",
    )
    stills: StillsName = Field(
        "joint",
        description="what a clip of one frame is: a single picture trained jointly with the clips, a clip that does "
        "not move (repeat), or nothing (leave_out)",
    )
    sequence_fps: float = Field(
        10.0, gt=0, le=240, description="frames a second of a folder of numbered frames, which does not say its own"
    )
    channels: Literal[1, 3, 4] = Field(3, description="1 grey, 3 colour, 4 colour with transparency")
    background: str = Field(
        "white", description="colour behind transparent pixels, a name or #rrggbb (not used with 4 channels)"
    )
    fit: FitName = Field(
        "crop", description="how a clip that is not square is made so: crop, pad with background, or stretch"
    )
    flip_prob: float = Field(
        0.5, ge=0, le=1, description="chance to mirror a clip; never where its caption says left or right"
    )
    hold_out: float = Field(
        0.0, ge=0, lt=1, description="share of clips that training never sees, chosen by their content, to judge it by"
    )

    @field_validator("formats", mode="before")
    @classmethod
    def _read_one(cls, given: Any) -> Any:
        return (given,) if isinstance(given, str) else given

    @field_validator("formats")
    @classmethod
    def _order(cls, given: tuple[FormatName, ...]) -> tuple[FormatName, ...]:
        # Said in one way only, equal choices are equal settings.
        return tuple(name for name in get_args(FormatName) if name in given)

    @field_validator("lengths")
    @classmethod
    def _check_lengths(cls, lengths: tuple[int, int] | None, info: ValidationInfo) -> tuple[int, int] | None:
        usual = info.data.get("num_frames")
        if lengths is not None and usual is not None and not 2 <= lengths[0] <= usual <= lengths[1] <= 128:
            raise ValueError(
                f"must be two numbers from 2 to 128 with num_frames, {usual}, between them, not {list(lengths)}"
            )
        return lengths

    @property
    def most_frames(self) -> int:
        """Frames of the longest clip that training shows."""
        return self.num_frames if self.lengths is None else self.lengths[1]

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name in ("window", "short"):
            if self.fps is None and getattr(self, name) is not None:
                raise ValueError(f"{name} needs fps: without it num_frames are spread over the whole of every clip")
        return self


class LimitsSettings(Settings):
    """The most that one clip may cost; what passes a limit is left out, with the reason said."""

    max_bytes: int = Field(1 << 28, ge=1, description="bytes of a file, or of all frames of a folder together")
    max_frame_pixels: int = Field(1 << 24, ge=1, le=1 << 26, description="pixels of one frame; 16777216 is 4096x4096")
    max_frames: int = Field(10_000, ge=1, description="frames of a clip")
    max_pixels: int = Field(1 << 34, ge=1, description="pixels of all frames of a clip together")
    max_duration_s: float = Field(3600.0, gt=0, description="seconds that a clip lasts")
    max_decode_s: float = Field(120.0, gt=0, description="seconds that reading a clip may take")


class TextSettings(Settings):
    """Which encoder reads the captions, and how often training hides them."""

    encoder: str = Field(DEFAULT_ENCODER, description="a BERT-family encoder: hub name or local folder")
    encoder_precision: EncoderPrecisionName = Field(
        "fp32", description="the encoder's weights as they are, or packed by bitsandbytes in 8 (int8) or 4 bits (nf4)"
    )
    pooling: PoolingName = Field("mean", description="pooled vector: mean of all tokens after the first, or the first")
    max_tokens: int = Field(64, ge=4, le=512, description="longer captions are cut here, in tokens")
    drop_prob: float = Field(
        0.1, ge=0, le=1, description="share of clips trained without their text, for classifier-free guidance"
    )
    template: str = Field(
        "",
        max_length=1000,
        description="what captions become, such as 'a sprite of {caption}'; without {caption}: that of every clip",
    )

    @field_validator("template")
    @classmethod
    def _check_template(cls, template: str) -> str:
        rest = template.replace(CAPTION_PLACEHOLDER, "")
        if "{" in rest or "}" in rest:
            raise ValueError(f"a template has no placeholder but {CAPTION_PLACEHOLDER}, and this is {template!r}")
        return " ".join(template.split())


class ModelSettings(Settings):
    """The arguments of Unet3D that a recipe may choose."""

    dim: int = Field(64, ge=4, le=1024, multiple_of=2, description="channels of the first level")
    dim_mults: tuple[Annotated[int, Field(ge=1, le=64)], ...] = Field(
        (1, 2, 4, 8), min_length=1, description="channels of each level, times dim"
    )
    blocks: tuple[Annotated[int, Field(ge=1, le=8)], ...] = Field(
        (2,), min_length=1, description="residual blocks of a level on each way, for all levels or one number a level"
    )
    attn_heads: tuple[Annotated[int, Field(ge=1, le=64)], ...] = Field(
        (8,), min_length=1, description="attention heads, for all levels or one number a level"
    )
    attn_dim_head: int = Field(32, ge=4, le=256, multiple_of=2, description="channels of a temporal attention head")
    init_dim: int | None = Field(None, ge=4, le=1024, description="channels after the first convolution (default: dim)")
    init_kernel_size: int = Field(7, ge=1, le=15, description="kernel of the first convolution, odd")
    spatial_attn: tuple[SpatialAttentionName, ...] = Field(
        ("linear",),
        min_length=1,
        description="how pixels attend within their frame, for all levels or one word a level: linear costs as their "
        "number, full as its square; the middle is always full",
    )
    temporal_attn: tuple[bool, ...] = Field(
        (True,),
        min_length=1,
        description="whether frames attend to each other, for all levels or one a level; in the middle they always do",
    )
    zero_init: bool = Field(
        False, description="start with blocks and attentions that change nothing, and with an answer of 0"
    )
    patch: Literal[1, 2, 4, 8] = Field(
        1, description="side of the pixel squares folded into channels before the network"
    )
    token_pooling: bool = Field(
        False, description="tell every block a vector that is pooled from the caption's tokens by learned attention"
    )
    cross_attn: tuple[bool, ...] = Field(
        (False,),
        min_length=1,
        description="whether pixels attend to the caption's tokens, for all levels or one a level; the middle does "
        "where the last level does",
    )
    token_dim: int = Field(
        128, ge=32, le=1024, multiple_of=32, description="channels of the tokens that token_pooling and cross_attn read"
    )
    token_layers: int = Field(0, ge=0, le=12, description="trainable layers over these tokens")
    interval: bool = Field(
        False,
        description="tell the network the time between two frames, so that the rate asked for changes the motion; a "
        "network without text is not told",
    )
    detail: int | None = Field(
        None,
        ge=4,
        le=256,
        description="channels of a head that corrects what is said of patches, on squares a quarter as wide "
        "(default: no head)",
    )
    place_dim: int | None = Field(
        None,
        ge=4,
        le=1024,
        description="channels in which text and timestep are read at every place and moment, to scale and shift the "
        "pixels of each level: so where and when a word such as left says something is heard (default: not read)",
    )

    @model_validator(mode="before")
    @classmethod
    def _read_old(cls, given: Any) -> Any:
        """Recipes and checkpoints from before spatial_attn say use_sparse_linear_attn, true or false for all levels."""
        if not isinstance(given, Mapping) or "use_sparse_linear_attn" not in given:
            return given
        old = given["use_sparse_linear_attn"]
        if "spatial_attn" in given or not isinstance(old, bool):
            raise ValueError(f"use_sparse_linear_attn = {old} is not read here; spatial_attn says how pixels attend")
        others = {name: value for name, value in given.items() if name != "use_sparse_linear_attn"}
        return others | {"spatial_attn": "linear" if old else "none"}

    @field_validator("blocks", "attn_heads", "spatial_attn", "temporal_attn", "cross_attn", mode="before")
    @classmethod
    def _read_one(cls, given: Any) -> Any:
        return given if isinstance(given, list | tuple) else (given,)

    @field_validator("blocks", "attn_heads", "spatial_attn", "temporal_attn", "cross_attn")
    @classmethod
    def _check_levels(cls, values: tuple[Any, ...], info: ValidationInfo) -> tuple[Any, ...]:
        num_levels = len(info.data.get("dim_mults", values))
        if len(values) not in (1, num_levels):
            raise ValueError(f"must be one value, or {num_levels} for the levels of dim_mults, not {len(values)}")
        # Said in one way only, equal networks have equal settings.
        return values[:1] if len(set(values)) == 1 else values

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.init_kernel_size % 2 == 0:
            raise ValueError(f"init_kernel_size must be odd, not {self.init_kernel_size}")
        if self.token_layers and not self.reads_tokens:
            raise ValueError("token_layers needs token_pooling or cross_attn: otherwise nothing reads the tokens")
        if self.detail is not None and self.patch == 1:
            raise ValueError("detail needs a patch of 2 or more: there is nothing finer than one pixel")
        return self

    @property
    def reads_tokens(self) -> bool:
        """Whether a caption's tokens are read, or only its pooled vector as in the original."""
        return self.token_pooling or any(self.cross_attn)

    @property
    def size_step(self) -> int:
        """Width and height of a clip must be a multiple of this many pixels."""
        return self.patch * 2 ** (len(self.dim_mults) - 1)


class DiffusionSettings(Settings):
    """The process that is learned."""

    num_timesteps: int = Field(1000, ge=2, le=10000, description="noise levels in training")
    schedule: ScheduleName = Field("cosine", description="how noise grows with the timestep")
    zero_terminal_snr: bool = Field(False, description="leave nothing of the clip at the last timestep")
    log_snr_shift: float = Field(
        0.0, ge=-10, le=10, description="added to the log of signal over noise; below 0 is noisier, for larger clips"
    )
    tell: TellingName = Field(
        "index", description="the timestep as the network is told it: t, out of 1000, or out of 1"
    )
    prediction: PredictionName = Field(
        "eps", description="what the network says: the noise, the velocity, the clip, or the clip one step cleaner"
    )
    variance: VarianceName = Field(
        "fixed_small", description="spread of the clip one step cleaner: of the schedule, or learned in extra channels"
    )
    loss: LossName = Field("l1", description="distance between the network's answer and the truth, or the bound itself")
    bound_weight: float = Field(
        0.001, ge=0, le=1, description="share of the variational bound beside a distance, where the variance is learned"
    )
    weighting: WeightingName = Field(
        "none", description="how much each noise level counts in the loss; balanced: all alike, by the run's own losses"
    )
    weighting_gamma: float | None = Field(
        None,
        gt=0,
        le=10_000,
        description="strength of the weighting (default: 5 for min_snr, 1 for p2, 400 for velocity)",
    )
    motion_weight: float = Field(
        1.0,
        ge=1,
        le=1000,
        description="how many times what moves counts in the loss against what stands still; needs loss l2",
    )
    timesteps: TimestepsName = Field(
        "even", description="which timesteps training visits: all alike, or more often where the loss varies"
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.prediction == "eps" and self.zero_terminal_snr:
            raise ValueError("zero_terminal_snr needs prediction v or x0: from pure noise eps says nothing of the clip")
        if self.prediction == "previous" and self.weighting not in ("none", "balanced"):
            raise ValueError(f"weighting {self.weighting} needs prediction eps, v or x0, not previous")
        if self.weighting != "none" and self.loss in ("kl", "rescaled_kl"):
            raise ValueError(
                f"loss {self.loss} weighs the noise levels by itself: it needs weighting none, not {self.weighting}"
            )
        if self.motion_weight != 1 and self.loss != "l2":
            raise ValueError(f"motion_weight {self.motion_weight:g} needs loss l2, not {self.loss}")
        if self.weighting == "balanced" and self.timesteps != "even":
            raise ValueError(f"weighting balanced needs timesteps even: {self.timesteps} weighs losses by itself")
        return self

    @property
    def learns_variance(self) -> bool:
        """Whether the network says the variance too, in as many channels again."""
        return self.variance in ("learned", "learned_range")


class TrainSettings(Settings):
    """The training loop."""

    num_steps: int = Field(10_000, ge=1, description="optimizer steps")
    batch_size: int = Field(16, ge=1, description="clips in one pass of one process")
    accumulation: int = Field(1, ge=1, description="passes added up before the optimizer steps")
    learning_rate: float = Field(1e-4, gt=0, le=1, description="peak learning rate")
    warmup_steps: int = Field(100, ge=0, description="steps over which the learning rate rises from 0")
    decay: DecayName = Field("cosine", description="how the learning rate falls to 0 over the rest of the run")
    weight_decay: float = Field(0.0, ge=0, description="share of a weight that a rate of 1 takes away in a step")
    max_grad_norm: float = Field(1.0, gt=0, allow_inf_nan=False, description="gradients are clipped to this norm")
    optimizer: OptimizerName = Field(
        "adamw", description="adamw; muon, which learns more from a step; or adamw8bit, with 8-bit states"
    )
    still_share: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="share of a batch for stills that lie among clips; as many share a place as a clip has frames "
        "(default: their share of all frames, at most a third)",
    )
    frame_share: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="share of a batch for single frames of the clips, drawn from all of them and seen as stills are: "
        "as many share a place as a clip has frames",
    )
    half_size_share: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="share of the steps, the first of a run, that show clips at half their size, which costs less and "
        "teaches sooner what moves where",
    )
    ema_decay: float = Field(0.995, ge=0, lt=1, description="weight of the past in the averaged weights")
    ema_start: int = Field(100, ge=0, description="up to this step the average is a copy of the weights")
    ema_ramp: bool = Field(
        True, description="after ema_start let the weight of the past rise to ema_decay; false takes ema_decay at once"
    )
    more_ema_decays: tuple[Annotated[float, Field(ge=0, lt=1)], ...] = Field(
        (), description="further averages to keep, each saved as ema-DECAY.safetensors beside the one of ema_decay"
    )
    ema_device: AverageDeviceName = Field(
        "same", description="where averages are kept: same as the weights, or cpu, which spares a GPU a copy of them"
    )
    checkpoint_activations: bool = Field(
        False, description="keep few activations and compute the others again for the gradients: less memory, more time"
    )
    precision: PrecisionName = Field(
        "auto", description="arithmetic of the network; auto measures this machine; fp16 scales its losses"
    )
    compile: CompileName = Field(
        "auto", description="torch.compile; auto measures whether it pays within the run, compile time counted"
    )
    save_every: int = Field(500, ge=1, description="steps between saved states")
    sample_every: int = Field(1000, ge=1, description="steps between sample sheets")
    seed: int = Field(0, ge=0, le=MAX_SEED, description="every random draw of a run follows from it")
    tensorboard: bool = Field(False, description="also write the log and the sample sheets for TensorBoard")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(set(self.more_ema_decays)) < len(self.more_ema_decays):
            raise ValueError(f"more_ema_decays must all differ, not {list(self.more_ema_decays)}")
        return self


class Recipe(Settings):
    """All that defines a training run, as a recipe file states it."""

    about: str = Field("", description="what the recipe is for, what it costs and what comes out")
    prompts: tuple[str, ...] = Field((), description="prompts of the sample sheets (default: captions of the clips)")
    data: DataSettings = DataSettings()
    text: TextSettings = TextSettings()
    model: ModelSettings = ModelSettings()
    diffusion: DiffusionSettings = DiffusionSettings()
    train: TrainSettings = TrainSettings()
    limits: LimitsSettings = LimitsSettings()

    @model_validator(mode="after")
    def _check(self) -> Self:
        step = self.model.size_step
        if self.data.size % step:
            raise ValueError(f"data.size must be a multiple of {step} with this model, not {self.data.size}")
        if self.train.half_size_share and (self.data.size % (2 * step) or self.data.size < 16):
            raise ValueError(
                f"with train.half_size_share data.size must be at least 16 and a multiple of {2 * step} with this "
                f"model, not {self.data.size}"
            )
        if self.train.half_size_share and self.train.compile == "always":
            raise ValueError(
                "train.compile=always needs clips of one size: with train.half_size_share each would be compiled anew"
            )
        if self.data.lengths is not None and self.train.compile == "always":
            raise ValueError(
                "train.compile=always needs clips of one length: with data.lengths each would be compiled anew"
            )
        if self.train.frame_share and self.data.num_frames == 1:
            raise ValueError("train.frame_share needs clips, and data.num_frames is 1")
        return self


class GenerationSettings(Settings):
    """What a person chooses for a clip. None means: as the checkpoint was trained.

    Where values far below the most allowed are usual, `usual_max` in a field's extras says up to where a slider goes.
    """

    prompt: str = Field("", max_length=1000, description="what to draw")
    negative: str = Field("", max_length=1000, description="what to steer away from")
    num_frames: int | None = Field(
        None, ge=1, le=128, description="frames (default: as trained)", json_schema_extra={"usual_max": 32}
    )
    size: int | None = Field(
        None,
        ge=8,
        le=512,
        description="width and height drawn, in pixels (default: as trained)",
        json_schema_extra={"usual_max": 128},
    )
    num_steps: int = Field(
        16,
        ge=1,
        le=1000,
        description="denoising steps; more is slower and cleaner",
        json_schema_extra={"usual_max": 100},
    )
    sampler: SamplerName = Field("unipc", description="how the noise is removed")
    spacing: str = Field(
        "trailing",
        max_length=100,
        description="levels visited: a name; or sections such as 10,15,20, or ddim25, which say the steps themselves",
        json_schema_extra={"choices": [*get_args(SpacingName)]},
    )
    eta: float = Field(0.0, ge=0, le=1, description="fresh noise in each step of ddim, euler or dpmpp_2m; 0 is none")
    temperature: float = Field(1.0, ge=0, le=2, description="strength of fresh noise; under 1 is calmer")
    noise_dropout: float = Field(0.0, ge=0, lt=1, description="share of fresh noise that is silenced")
    guidance_scale: float = Field(
        2.0, ge=0, le=50, description="how hard the text pulls; 1 is off", json_schema_extra={"usual_max": 10}
    )
    guidance_curve: str = Field(
        "",
        max_length=200,
        description="scales from the first step to the last, such as 4,2,1, in place of guidance_scale",
    )
    guidance_low: float = Field(0.0, ge=0, le=1, description="guide only above this noise level")
    guidance_high: float = Field(1.0, ge=0, le=1, description="guide only below this noise level")
    guidance_rescale: float = Field(0.0, ge=0, le=1, description="share of guidance's added contrast to take back")
    threshold: ThresholdName = Field("static", description="how the estimated clip is kept in range at each step")
    percentile: float = Field(0.9, gt=0, le=1, description="share of pixels inside the range, for threshold dynamic")
    own_noise: bool = Field(
        False, description="let ddim keep the noise the network named, though the threshold changed its clip"
    )
    seed: int | None = Field(None, ge=0, le=MAX_SEED, description="equal seeds give equal clips (default: drawn)")
    num_clips: int = Field(1, ge=1, le=64, description="how many clips to make", json_schema_extra={"usual_max": 8})
    fps: float | None = Field(None, gt=0, le=100, description="frames a second of the file (default: as trained)")

    @field_validator("spacing")
    @classmethod
    def _check_spacing(cls, spacing: str) -> str:
        names = get_args(SpacingName)
        if spacing not in names and not re.fullmatch(r"\d+(,\d+)+|ddim\d+", spacing):
            raise ValueError(f"must be {', '.join(names)}, sections such as 10,15,20, or ddim25, not {spacing!r}")
        return spacing

    @field_validator("guidance_curve")
    @classmethod
    def _check_curve(cls, curve: str) -> str:
        if any(not 0 <= scale <= 50 for scale in _scales(curve)):
            raise ValueError(f"takes scales from 0 to 50 such as 4,2,1, not {curve!r}")
        return curve

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.guidance_low > self.guidance_high:
            raise ValueError(f"guidance_low {self.guidance_low} lies above guidance_high {self.guidance_high}")
        return self

    @property
    def guidance_scales(self) -> tuple[float, ...]:
        """The scales from the first step to the last; one is for the whole walk."""
        return _scales(self.guidance_curve) or (self.guidance_scale,)


def _scales(curve: str) -> tuple[float, ...]:
    """The numbers of a guidance curve; nan where one is none."""
    parts = curve.replace(" ", "").split(",") if curve.strip() else []
    return tuple(float(part) if re.fullmatch(r"\d+(\.\d+)?", part) else math.nan for part in parts)
