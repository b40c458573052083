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
    # Clips as long as those that are drawn, whatever lengths were trained.
    data = service.header.recipe.data.model_copy(update={"lengths": None})
    pixels = Pixels.of(data, service.header.recipe.limits)
    clips = load_clips(asked.clips, pixels, cache=cache_folder(), say=print)
    split = split_loaded(clips, data.hold_out)
    every = np.stack(clips.frames)
    known = every[list(split.training)]
    true_clips = {caption: place for place in split.held_out for caption in clips.records[place].captions[:1]}
    said = [clips.records[place].captions for place in split.training]
    spread = [said[place * len(said) // asked.trained_on] for place in range(min(asked.trained_on, len(said)))]
    prompts = asked.prompts + [captions[0] for captions in spread if captions]
    prompts += list(true_clips) if asked.held_out else []
    if not prompts:
        parser.error("nothing to draw: give --prompt, --trained-on, or --held-out with a run that has data.hold_out")
    trained = {caption for captions in said for caption in captions}
    rows: list[np.ndarray] = []
    labels, distances, found, own = [], [], [], []
    for prompt in prompts:
        drawn = np.stack(
            [draw(service, prompt, seed, asked.preset, asked.guidance_scale) for seed in range(asked.seeds)]
        )
        nearest = nearest_clips(drawn, known)
        distances += list(nearest.distance)
        for seed, (distance, place) in enumerate(zip(*nearest, strict=True)):
            captions = "; ".join(said[place])
            print(f"{prompt!r}, seed {seed}: {distance:.1f} from {captions!r}")
            if asked.frame is None:
                rows += [drawn[seed], known[place]]
                labels += [f"{prompt}, seed {seed}", f"nearest in training, {distance:.0f} away: {captions}"]
        if asked.frame is not None:
            rows += [drawn[:, asked.frame], known[nearest.place, asked.frame]]
            labels += [f"{prompt}, seeds 0 to {asked.seeds - 1}", "the nearest training clip of each"]
        elif prompt in true_clips:
            rows.append(every[true_clips[prompt]])
            labels.append("the clip of this caption, held out")
        if prompt in true_clips:
            found += list(nearest_clips(drawn, every).place == true_clips[prompt])
        if prompt in trained:
            own += [prompt in said[place] for place in nearest.place]
    contact_sheet(np.stack(rows), labels).save(asked.sheet)
    compared = np.zeros(len(known), bool)
    compared[:: max(2, len(known) // COMPARED_AMONG_THEMSELVES)] = True
    among = nearest_clips(known[compared], known[~compared]).distance
    print(f"to the nearest training clip: samples {np.median(distances):.1f} (least {min(distances):.1f}),")
    print(f"training clips among themselves {np.median(among):.1f} (least {min(among):.1f})")
    if own:
        print(f"a clip of the caption is the nearest of {len(known)} in {sum(own)} of {len(own)} samples of training's")
    if found:
        print(f"the clip held out is the nearest of {len(every)} in {sum(found)} of {len(found)} samples")


def draw(service: GenerationService, prompt: str, seed: int, preset: PresetName, guidance_scale: float) -> np.ndarray:
    """One clip: uint8 f h w c."""
    settings = GenerationSettings(prompt=prompt, seed=seed, guidance_scale=guidance_scale, **PRESETS[preset])
    (clip,) = [clip for step in service.generate(settings) for clip in step.finished]
    return clip.frames


if __name__ == "__main__":
    main()
