"""Draw samples with the training clip that is nearest to each under it: is the model copying, and what did it learn?

    python benchmarks/nearest_sheet.py checkpoints/worlds.safetensors CLIPS sheet.png --seeds 20 --frame 6 \\
        --prompt "fireworks at night" --prompt "fireworks in the night sky"
    python benchmarks/nearest_sheet.py runs/sprites SPRITES sheet.png --prompt "teal slime walking up" --held-out

CLIPS is the folder that the checkpoint was trained on. With --frame a row holds that frame of all seeds of a prompt,
without it all frames of one sample. With --held-out the captions of the clips that data.hold_out kept from training are
prompts too, with --trained-on N those of N clips of training, evenly spread. Prints how near samples come to training
clips (root mean square, of 255), beside how near training clips come to each other, and per sample the captions of its
nearest clip. Where a prompt is the caption of a clip held out, that has a row of its own, and it is told how often it
is the nearest of all clips, trained on or not. Where it is the caption of training clips, it is told how often one of
these is the nearest.
"""

import argparse
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from t2v.cache import cache_folder
from t2v.config import GenerationSettings, PresetName
from t2v.data.folder import load_clips
from t2v.data.pixels import Pixels
from t2v.data.split import split_loaded
from t2v.evaluation.memorisation import nearest_clips
from t2v.presets import PRESET_NAMES, PRESETS
from t2v.service import GenerationService
from t2v.training.samples import contact_sheet

COMPARED_AMONG_THEMSELVES = 60


@dataclass(frozen=True)
class Clips:
    """What the checkpoint was trained on, and what was held out from it.

    every: uint8 n f h w c, those held out among them; training: places of the others; said: captions of these
    held_out: by the first caption of each that was held out, its place
    """

    every: np.ndarray
    training: list[int]
    said: list[tuple[str, ...]]
    held_out: dict[str, int]

    @classmethod
    def read(cls, folder: Path, service: GenerationService) -> "Clips":
        """As the checkpoint saw them, and as long as what it draws, whatever lengths were trained."""
        data = service.header.recipe.data.model_copy(update={"lengths": None})
        clips = load_clips(folder, Pixels.of(data, service.header.recipe.limits), cache=cache_folder(), say=print)
        split = split_loaded(clips, data.hold_out)
        captions = [tuple(record.captions) for record in clips.records]
        return cls(
            every=np.stack(clips.frames),
            training=list(split.training),
            said=[captions[place] for place in split.training],
            held_out={caption: place for place in split.held_out for caption in captions[place][:1]},
        )

    @cached_property
    def known(self) -> np.ndarray:
        """The clips of training."""
        return self.every[self.training]

    def spread(self, number: int) -> list[str]:
        """The first captions of so many clips of training, evenly spread."""
        number = min(number, len(self.said))
        chosen = [self.said[place * len(self.said) // number] for place in range(number)]
        return [captions[0] for captions in chosen if captions]


@dataclass
class Findings:
    """Rows of the sheet, and what is counted.

    distances: of each sample from its nearest training clip
    own: per sample of a caption of training, whether that clip has the caption
    found: per sample of a caption held out, whether its clip is the nearest of all
    """

    rows: list[np.ndarray] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    distances: list[float] = field(default_factory=list)
    own: list[bool] = field(default_factory=list)
    found: list[bool] = field(default_factory=list)

    def add(self, prompt: str, drawn: np.ndarray, clips: Clips, frame: int | None) -> None:
        """Compare the samples of a prompt (uint8 n f h w c, a seed each) with all clips."""
        known = clips.known
        nearest = nearest_clips(drawn, known)
        self.distances += list(nearest.distance)
        if any(prompt in captions for captions in clips.said):
            self.own += [prompt in clips.said[place] for place in nearest.place]
        true_place = clips.held_out.get(prompt)
        if true_place is not None:
            self.found += list(nearest_clips(drawn, clips.every).place == true_place)
        for seed, (distance, place) in enumerate(zip(*nearest, strict=True)):
            captions = "; ".join(clips.said[place])
            print(f"{prompt!r}, seed {seed}: {distance:.1f} from {captions!r}")
            if frame is None:
                self.show(drawn[seed], f"{prompt}, seed {seed}")
                self.show(known[place], f"nearest in training, {distance:.0f} away: {captions}")
        if frame is not None:
            self.show(drawn[:, frame], f"{prompt}, seeds 0 to {len(drawn) - 1}")
            self.show(known[nearest.place, frame], "the nearest training clip of each")
        elif true_place is not None:
            self.show(clips.every[true_place], "the clip of this caption, held out")

    def show(self, frames: np.ndarray, label: str) -> None:
        """Add a row."""
        self.rows.append(frames)
        self.labels.append(label)

    def tell(self, clips: Clips) -> None:
        """Print distances and counts."""
        known = clips.known
        compared = np.zeros(len(known), bool)
        compared[:: max(2, len(known) // COMPARED_AMONG_THEMSELVES)] = True
        among = nearest_clips(known[compared], known[~compared]).distance
        samples = self.distances
        print(f"to the nearest training clip: samples {np.median(samples):.1f} (least {min(samples):.1f}),")
        print(f"training clips among themselves {np.median(among):.1f} (least {min(among):.1f})")
        own, found = self.own, self.found
        if own:
            print(f"a clip of the caption is the nearest of {len(known)} in {sum(own)} of {len(own)} of training's")
        if found:
            print(f"the clip held out is the nearest of {len(clips.every)} in {sum(found)} of {len(found)} samples")


def main() -> None:
    """Draw, compare, write the sheet and print the distances."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("clips", type=Path)
    parser.add_argument("sheet", type=Path)
    parser.add_argument("--prompt", action="append", default=[], dest="prompts")
    parser.add_argument("--held-out", action="store_true")
    parser.add_argument("--trained-on", type=int, default=0, metavar="N")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--frame", type=int)
    parser.add_argument("--preset", choices=PRESET_NAMES, default="normal")
    parser.add_argument("--guidance-scale", type=float, default=GenerationSettings().guidance_scale)
    asked = parser.parse_args()

    service = GenerationService.load(asked.checkpoint)
    clips = Clips.read(asked.clips, service)
    prompts = asked.prompts + clips.spread(asked.trained_on) + (list(clips.held_out) if asked.held_out else [])
    if not prompts:
        parser.error("nothing to draw: give --prompt, --trained-on, or --held-out with a run that has data.hold_out")
    findings = Findings()
    for prompt in prompts:
        samples = [draw(service, prompt, seed, asked.preset, asked.guidance_scale) for seed in range(asked.seeds)]
        findings.add(prompt, np.stack(samples), clips, asked.frame)
    contact_sheet(np.stack(findings.rows), findings.labels).save(asked.sheet)
    findings.tell(clips)


def draw(service: GenerationService, prompt: str, seed: int, preset: PresetName, guidance_scale: float) -> np.ndarray:
    """One clip: uint8 f h w c."""
    settings = GenerationSettings(prompt=prompt, seed=seed, guidance_scale=guidance_scale, **PRESETS[preset])
    (clip,) = [clip for step in service.generate(settings) for clip in step.finished]
    return clip.frames


if __name__ == "__main__":
    main()
