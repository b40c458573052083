"""Settings in, clips out: equal seeds give equal clips, and what cannot be drawn is said before it is tried."""

import json
import re

import numpy as np
import pytest
import torch

import t2v.sampling
import t2v.service
from t2v.checkpoint import load_checkpoint, save_checkpoint
from t2v.config import GenerationSettings
from t2v.data.video_files import read_metadata
from t2v.errors import ClipError, GenerationError, SettingsError, TextEncoderError
from t2v.service import GeneratedClip, GenerationService, check_scale, check_target, free_path, save_clip

WORDS = ("a", "circle", "fireworks", "night", "red")
EXAMPLES = ("a red circle", "fireworks")


@pytest.fixture
def service(make_checkpoint, fake_encoder):
    path = make_checkpoint(cond_dim=fake_encoder.dim, encoder_sha256="fake", words=WORDS, example_prompts=EXAMPLES)
    return GenerationService.load(path, device="cpu")


@pytest.fixture
def plain(make_checkpoint):
    """A model without text, which must never look for an encoder: there is none."""
    return GenerationService.load(make_checkpoint(), device="cpu")


def asked(prompt="a red circle", **choices):
    return GenerationSettings(prompt=prompt, **({"num_steps": 3, "seed": 5} | choices))


def drawn(service, settings):
    return [clip for step in service.generate(settings) for clip in step.finished]


def frames(service, settings):
    return drawn(service, settings)[0].frames


@pytest.fixture
def calls(service, monkeypatch):
    """The batch size of every call of the network."""
    sizes = []
    monkeypatch.setattr(service.network, "forward", lambda x, t, text=None: sizes.append(len(x)) or 0.1 * x)
    return sizes


# The same clip again.


@pytest.mark.parametrize("sampler, eta", [("ddim", 0.0), ("ddim", 1.0), ("ddpm", 0.0)])
def test_equal_seeds_give_equal_clips_and_others_do_not(service, sampler, eta):
    settings = asked(sampler=sampler, eta=eta)
    first = frames(service, settings)
    assert first.shape == (3, 8, 8, 3) and first.dtype == np.uint8
    assert np.array_equal(first, frames(service, settings))
    assert not np.array_equal(first, frames(service, asked(sampler=sampler, eta=eta, seed=6)))


def test_a_clip_is_a_function_of_the_seed_and_its_place_alone(service):
    for sampler in ("ddim", "ddpm"):
        two, three = (drawn(service, asked(num_clips=number, sampler=sampler)) for number in (2, 3))
        assert [clip.index for clip in three] == [0, 1, 2]
        for one, other in zip(two, three, strict=False):
            assert np.array_equal(one.frames, other.frames)
        assert not np.array_equal(three[0].frames, three[1].frames)


def test_a_seed_that_was_drawn_is_told_and_draws_the_clip_again(service):
    clip = drawn(service, asked(seed=None))[0]
    assert 0 <= clip.seed < 2**32
    assert drawn(service, asked(seed=None))[0].seed != clip.seed
    assert np.array_equal(clip.frames, frames(service, asked(seed=clip.seed)))


def test_what_a_clip_says_of_itself_draws_it_again(service):
    clip = drawn(service, asked(seed=None, num_clips=2, guidance_scale=3.0))[1]
    told = json.loads(clip.metadata())
    settings = GenerationSettings(**{name: told[name] for name in GenerationSettings.model_fields})
    assert None not in settings.model_dump().values()
    assert np.array_equal(clip.frames, drawn(service, settings)[told["clip"]].frames)
    assert told["checkpoint"] == "tiny.safetensors"
    assert told["checkpoint_sha256"] == service.checkpoint.sha256
    assert (told["device"], told["precision"]) == ("cpu", "fp32")


def test_a_service_draws_the_same_whatever_it_drew_before(service, make_checkpoint):
    frames(service, asked("something else", seed=1))
    again = GenerationService.load(service.checkpoint.path, device="cpu")
    assert np.array_equal(frames(service, asked()), frames(again, asked()))


def test_drawing_leaves_torchs_own_random_numbers_alone(service):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    frames(service, asked(sampler="ddpm"))
    assert torch.equal(before, torch.get_rng_state())


# Step by step.


def test_every_step_shows_a_preview(service):
    steps = list(service.generate(asked(num_frames=2, size=16, num_clips=2)))
    assert [(step.clips.start, step.index) for step in steps] == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]
    for step in steps:
        assert step.preview().shape == (1, 2, 16, 16, 3) and step.preview().dtype == np.uint8
        assert len(step.finished) == (step.index == 2)
    # The last step's estimate is the clip.
    assert np.array_equal(steps[2].preview()[0], steps[2].finished[0].frames)


@pytest.mark.parametrize("scale, batch", [(1, 1), (2, 2), (0, 2)])
def test_a_step_is_one_call_of_the_network(service, calls, scale, batch):
    list(service.generate(asked(num_steps=4, guidance_scale=scale)))
    assert calls == [batch] * 4


def test_closing_stops_the_work(service, calls):
    steps = service.generate(asked(num_steps=10))
    next(steps)
    next(steps)
    steps.close()
    assert len(calls) == 2


def test_the_caller_keeps_gradients_and_precision_between_steps(service):
    for _ in service.generate(asked()):
        assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()


def test_bf16_draws_nearly_the_same(make_checkpoint, fake_encoder):
    path = make_checkpoint(cond_dim=fake_encoder.dim)
    full, half = (
        frames(GenerationService.load(path, device="cpu", precision=name), asked(num_steps=2)).astype(int)
        for name in ("fp32", "bf16")
    )
    assert not np.array_equal(full, half)
    assert abs(full - half).mean() < 4


# Text.


def test_the_prompt_and_the_negative_prompt_matter(service):
    clips = [
        frames(service, asked(prompt, negative=negative))
        for prompt in ("a red circle", "fireworks")
        for negative in ("", "night", "red")
    ]
    for place, clip in enumerate(clips):
        assert not any(np.array_equal(clip, other) for other in clips[:place])


def test_without_guidance_nothing_is_steered_away_from(service):
    assert np.array_equal(
        frames(service, asked(guidance_scale=1)), frames(service, asked(guidance_scale=1, negative="night"))
    )


def test_a_text_is_encoded_once(service, fake_encoder):
    for _ in range(2):
        drawn(service, asked("red", negative="night", num_clips=2))
    assert sorted(fake_encoder.read) == ["night", "red"]


def test_encoded_texts_are_not_kept_for_ever(service, fake_encoder, monkeypatch):
    monkeypatch.setattr(t2v.service, "MAX_KEPT_TEXTS", 2)
    for prompt in ("red", "night", "circle", "circle", "red"):
        drawn(service, asked(prompt, guidance_scale=1))
        assert len(service._features) <= 2
    assert fake_encoder.read == ["red", "night", "circle", "red"]


def test_a_model_without_text_draws_without_an_encoder(plain):
    ours = frames(plain, asked(""))
    assert np.array_equal(ours, frames(plain, asked("fireworks", guidance_scale=7, negative="night")))


@pytest.mark.parametrize("channels", [1, 4])
def test_grey_and_transparent_models_draw_their_channels(make_checkpoint, channels, tmp_path):
    service = GenerationService.load(make_checkpoint(recipe={"data": {"channels": channels}}), device="cpu")
    clip = drawn(service, asked(""))[0]
    assert clip.frames.shape == (3, 8, 8, channels)
    for ending in (".gif", ".webp", ".png"):
        save_clip(clip, tmp_path / f"clip{ending}", scale=2)


# What is left open is as trained.


def test_open_settings_are_taken_from_training(service):
    used = service.resolve(GenerationSettings(prompt="red"))
    assert (used.num_frames, used.size, used.fps) == (3, 8, 8.0)
    chosen = {"num_frames": 5, "size": 16, "fps": 12.5}
    assert service.resolve(GenerationSettings(prompt="red", **chosen)).model_dump().items() >= chosen.items()
    assert service.resolve(used) == used


@pytest.mark.parametrize("frame_ms, fps", [(1e9, 0.01), (120, 8.33333), (1, 50)])
def test_any_pace_of_training_can_be_written_and_asked_for_again(make_checkpoint, tmp_path, frame_ms, fps):
    service = GenerationService.load(make_checkpoint(frame_ms=frame_ms), device="cpu")
    used = service.resolve(GenerationSettings())
    assert used.fps == fps
    assert GenerationSettings(**used.model_dump()) == used
    save_clip(drawn(service, asked("", num_steps=1))[0], tmp_path / "clip.gif")


# Errors and hints.


@pytest.mark.parametrize("prompt", ["", "  \n"])
def test_an_empty_prompt_is_answered_with_examples(service, prompt):
    with pytest.raises(GenerationError, match="prompt is empty; say what to draw, such as 'a red circle', 'fireworks'"):
        next(service.generate(asked(prompt)))


@pytest.mark.parametrize("size, near", [(9, 8), (11, 12), (8, None), (12, None), (511, 512)])
def test_a_size_that_does_not_divide_is_answered_with_the_nearest(make_checkpoint, size, near):
    service = GenerationService.load(make_checkpoint(recipe={"model": {"patch": 4}}), device="cpu")
    if near is None:
        assert service.resolve(asked("", size=size)).size == size
    else:
        with pytest.raises(GenerationError, match=f"multiple of 4 with this model, not {size}; try {near}$"):
            service.resolve(asked("", size=size))
        assert service.resolve(asked("", size=near)).size == near


def test_more_steps_than_timesteps_are_refused(make_checkpoint):
    service = GenerationService.load(make_checkpoint(recipe={"diffusion": {"num_timesteps": 20}}), device="cpu")
    with pytest.raises(SettingsError, match="num_steps must be 1 to 20, the timesteps of training, not 21"):
        next(service.generate(asked("", num_steps=21)))
    assert len(list(service.generate(asked("", num_steps=20)))) == 20


def test_a_spacing_that_says_its_steps_has_the_last_word(make_checkpoint):
    service = GenerationService.load(make_checkpoint(), device="cpu")
    used = service.resolve(asked("", num_steps=7, spacing="3,2,1"))
    assert used.num_steps == 6 and len(list(service.generate(used))) == 6
    assert len(list(service.generate(asked("", num_steps=30, spacing="uniform")))) == 31  # as latent diffusion has it


@pytest.mark.parametrize(
    ("choices", "hint"),
    [
        ({"sampler": "heun", "eta": 0.5}, "sampler heun takes no eta; ddim, euler, dpmpp_2m do"),
        ({"temperature": 0.5}, "no fresh noise"),
        ({"sampler": "unipc", "own_noise": True}, "no use for own_noise"),
        ({"sampler": "ddpm", "temperature": 0.5}, None),
        ({"sampler": "ddim", "eta": 0.5, "noise_dropout": 0.5, "own_noise": True}, None),
    ],
)
def test_a_choice_without_effect_is_said(make_checkpoint, choices, hint):
    hints = GenerationService.load(make_checkpoint(), device="cpu").hints(asked("", **choices))
    assert hints == [] if hint is None else any(hint in said for said in hints)


def test_a_guide_changes_the_clip_and_is_named_in_the_file(make_checkpoint):
    path = make_checkpoint("strong.safetensors")
    weak = load_checkpoint(make_checkpoint("weak.safetensors"))
    save_checkpoint(weak.path, {name: 0.5 * tensor for name, tensor in weak.weights.items()}, weak.header)
    plain = GenerationService.load(path, device="cpu")
    guided = GenerationService.load(path, guide=weak.path, device="cpu")
    request = asked("", seed=1, num_steps=3, guidance_scale=3)
    clips = [step.finished[0] for service in (plain, guided) for step in service.generate(request) if step.finished]
    assert not np.array_equal(clips[0].frames, clips[1].frames)
    assert json.loads(clips[1].metadata())["guide"] == "weak.safetensors" and "guide" not in clips[0].metadata()


@pytest.mark.parametrize(
    ("other", "what"),
    [
        ({"recipe": {"diffusion": {"prediction": "v"}}}, "another diffusion process"),
        ({"recipe": {"data": {"channels": 1}}}, "1 channels"),
        ({"recipe": {"diffusion": {"log_snr_shift": -1}}}, "another diffusion process"),
        ({"cond_dim": 6}, "another text encoder"),
    ],
)
def test_a_guide_of_another_kind_is_refused(make_checkpoint, other, what):
    with pytest.raises(GenerationError, match=f"weak.safetensors was trained with {what} and cannot guide"):
        GenerationService.load(make_checkpoint(), guide=make_checkpoint("weak.safetensors", **other), device="cpu")


def test_other_weights_of_the_encoder_are_refused(make_checkpoint, fake_encoder):
    service = GenerationService.load(make_checkpoint(cond_dim=fake_encoder.dim, encoder_sha256="abc"), device="cpu")
    with pytest.raises(TextEncoderError, match=r"tiny.safetensors was trained with other weights .* sha256 abc"):
        next(service.generate(asked()))


def test_an_encoder_of_another_width_is_refused(make_checkpoint, fake_encoder):
    service = GenerationService.load(make_checkpoint(cond_dim=9), device="cpu")
    with pytest.raises(TextEncoderError, match=r"takes text vectors of width 9, but .* gives 6"):
        next(service.generate(asked()))


def test_a_device_that_is_not_there_is_refused(make_checkpoint, monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(SettingsError, match="no device 'mps'; it has"):
        GenerationService.load(make_checkpoint(), device="mps")


def test_a_request_like_training_needs_no_hint(service):
    assert service.hints(asked()) == []
    assert service.hints(service.resolve(asked("A red, RED circle!"))) == []


def test_of_a_model_of_many_lengths_each_is_as_trained(make_checkpoint):
    many = GenerationService.load(make_checkpoint(recipe={"data": {"num_frames": 4, "lengths": [3, 6]}}), device="cpu")
    assert all(many.hints(asked("", num_frames=number)) == [] for number in (3, 4, 6))
    assert many.hints(asked("", num_frames=7)) == ["this model was trained on 3 to 6 frames; 7 may look wrong"]
    # They span the same time.
    times = [number / many.resolve(asked("", num_frames=number)).fps for number in (3, 4, 6)]
    assert times == pytest.approx([0.5] * 3)
    rate = make_checkpoint("rate.safetensors", recipe={"data": {"num_frames": 4, "lengths": [3, 6], "fps": 8}})
    assert GenerationService.load(rate, device="cpu").resolve(asked("", num_frames=6)).fps == 8


def test_the_rate_asked_for_is_told_to_a_network_that_knows_rates(make_checkpoint, fake_encoder):
    told = GenerationService.load(
        make_checkpoint(cond_dim=fake_encoder.dim, recipe={"model": {"interval": True}}), device="cpu"
    )
    with torch.no_grad():
        told.network.interval_mlp[-1].weight.normal_(generator=torch.Generator().manual_seed(0))
    slow, fast = (frames(told, asked(fps=fps)) for fps in (4, 16))
    assert not np.array_equal(slow, fast)
    assert np.array_equal(slow, frames(told, asked(fps=4)))
    assert np.array_equal(frames(told, asked()), frames(told, asked(fps=8)))  # as trained: 125 ms from frame to frame
    still_slow, still_fast = (frames(told, asked(fps=fps, num_frames=1)) for fps in (4, 16))
    assert np.array_equal(still_slow, still_fast)  # training tells no rate of single frames
    assert "interval" not in told.text(["red"], num_frames=1)


def test_hints_name_what_training_never_saw(service):
    assert service.hints(asked("red fierworks at dawn")) == [
        "the words 'fierworks' (the nearest is 'fireworks') and 'dawn' were in no caption"
    ]
    assert service.hints(asked(negative="blurry")) == ["the word 'blurry' was in no caption"]
    assert service.hints(asked(size=16)) == ["this model was trained at 8 pixels; 16 may look wrong"]
    assert service.hints(asked(num_frames=9)) == ["this model was trained on 3 frames; 9 may look wrong"]
    assert "no effect" in service.hints(asked(negative="night", guidance_scale=1))[0]


def test_a_model_of_steps_that_are_one_cleaner_is_to_walk_them_all(make_checkpoint):
    recipe = {"diffusion": {"prediction": "previous", "num_timesteps": 40}}
    service = GenerationService.load(make_checkpoint(recipe=recipe), device="cpu")
    assert "take sampler ddpm in 40 steps" in service.hints(asked("", num_steps=16))[0]
    assert service.hints(asked("", num_steps=40, sampler="ddpm")) == []


def test_a_prompt_unlike_the_template_of_the_captions_is_told(make_checkpoint, fake_encoder):
    recipe = {"text": {"template": "a sprite of {caption}"}}
    service = GenerationService.load(make_checkpoint(cond_dim=fake_encoder.dim, recipe=recipe), device="cpu")
    assert service.hints(asked("A sprite of cats")) == []
    assert service.hints(asked("cats")) == [
        "the captions of training read 'a sprite of {caption}', and this prompt is used as it is typed"
    ]


def test_a_model_without_text_says_that_it_hears_none(plain):
    assert plain.hints(asked("")) == []
    assert plain.hints(asked("dragon")) == ["this model was trained without captions, so no text has an effect"]


def test_a_model_that_does_not_tell_its_words_gives_no_hints_on_them(make_checkpoint):
    assert GenerationService.load(make_checkpoint(cond_dim=6), device="cpu").hints(asked("dragon")) == []


# Files.


def clip_of(prompt, **choices):
    """A clip that nobody had to draw."""
    settings = asked(prompt, num_frames=3, size=8, fps=8, **choices)
    return GeneratedClip(
        frames=np.random.default_rng(0).integers(0, 255, (3, 8, 8, 3), np.uint8),
        frame_ms=125,
        settings=settings,
        index=settings.num_clips - 1,
        seconds=1.5,
        checkpoint="gifs/step-00000040",
        checkpoint_sha256="abc",
        device="cpu",
        precision="fp32",
    )


@pytest.fixture
def clip():
    return clip_of("Red circle, spinning!")


# Video takes a second each; the command's tests write it.
@pytest.mark.parametrize("ending", [".gif", ".webp", ".png"])
def test_a_file_tells_how_it_was_made_unless_it_must_not(clip, tmp_path, ending):
    told, silent = tmp_path / "new" / "folder" / f"told{ending}", tmp_path / f"silent{ending}"
    save_clip(clip, told)
    save_clip(clip, silent, with_metadata=False)
    assert json.loads(read_metadata(told)) == json.loads(clip.metadata())
    assert "made_by" not in (read_metadata(silent) or "")
    for private in (str(tmp_path), tmp_path.name):
        assert private.encode() not in told.read_bytes()


def test_a_scaled_file_repeats_pixels(clip, tmp_path):
    from PIL import Image

    save_clip(clip, tmp_path / "strip.png", scale=3)
    strip = np.asarray(Image.open(tmp_path / "strip.png"))
    assert strip.shape == (24, 3 * 24, 3)
    assert np.array_equal(strip[1::3, 1::3], np.concatenate(list(clip.frames), axis=1))
    assert np.array_equal(strip, strip[1::3, 1::3].repeat(3, axis=0).repeat(3, axis=1))


def test_a_scale_beyond_memory_is_answered_with_one_that_works():
    check_scale(32, asked(num_frames=10, size=64))
    for num_frames, size in ((10, 512), (128, 64), (128, 512)):
        with pytest.raises(GenerationError, match=rf"at most \d+ for {num_frames} frames of {size} pixels") as caught:
            check_scale(32, asked(num_frames=num_frames, size=size))
        works = int(re.search(r"at most (\d+)", str(caught.value))[1])
        assert works >= 1
        check_scale(works, asked(num_frames=num_frames, size=size))


def test_a_free_path_is_named_by_words_and_seed_and_never_taken(clip, tmp_path):
    first = free_path(tmp_path, clip)
    assert first.name == "red-circle-spinning-5.gif"
    first.touch()
    second = free_path(tmp_path, clip)
    assert second.name == "red-circle-spinning-5-take2.gif"
    second.touch()
    assert free_path(tmp_path, clip).name == "red-circle-spinning-5-take3.gif"


@pytest.mark.parametrize("prompt", ["", "../../etc/passwd", "火" * 1000, "\U00020000" * 500, "a/b\\c:d\0e", "-rf"])
def test_any_prompt_gives_a_name_that_a_disk_takes(tmp_path, prompt):
    clip = clip_of(prompt, num_clips=2, seed=2**53 - 1)
    path = free_path(tmp_path, clip, suffix=".webp")
    assert path.parent == tmp_path and path.name[0] not in "-."
    assert path.name.endswith("-9007199254740991-2.webp")
    save_clip(clip, path)
    assert json.loads(read_metadata(path))["prompt"] == prompt


@pytest.mark.parametrize(
    "name, reason",
    [
        ("clip.avi", "cannot write .avi; use .gif"),
        ("clip", "a file without ending"),
        ("folder.gif", "is a folder; name a file in it, such as .*folder.gif/clip.gif"),
        ("file/clip.gif", "cannot be written: .*file: Not a directory"),
        ("file/new/clip.gif", "cannot be written: .*file: Not a directory"),
    ],
)
def test_a_place_that_cannot_be_written_is_known_before_drawing(clip, tmp_path, name, reason):
    (tmp_path / "folder.gif").mkdir()
    (tmp_path / "file").touch()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ClipError, match=reason):
        check_target(tmp_path / name)
    with pytest.raises(ClipError, match=r"cannot (write|be written)"):
        save_clip(clip, tmp_path / name)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("fps", [0.001, 51, 100])
def test_a_pace_that_a_gif_has_not_is_known_before_drawing(tmp_path, fps):
    with pytest.raises(ClipError, match=r"a GIF shows 0\.01 to 50 frames a second, not .*; write \.mp4"):
        check_target(tmp_path / "clip.GIF", fps=fps)
    check_target(tmp_path / "clip.mp4", fps=fps)


def test_a_pace_that_a_webp_has_not_is_known_before_drawing(tmp_path):
    """Browsers show a frame of at most 10 ms for 100."""
    with pytest.raises(ClipError, match=r"a WebP shows at most 90 frames a second, not 95; write \.mp4"):
        check_target(tmp_path / "clip.WebP", fps=95)
    check_target(tmp_path / "clip.WebP", fps=90)


def test_checking_a_place_makes_nothing(tmp_path):
    check_target(tmp_path / "new" / "folder" / "clip.GIF")
    assert list(tmp_path.iterdir()) == []


def test_the_model_in_the_box_is_taken_where_none_is_named(make_checkpoint, monkeypatch):
    monkeypatch.setattr(t2v.service, "box_path", lambda: make_checkpoint("box.safetensors"))
    assert GenerationService.load(device="cpu").checkpoint.name == "box.safetensors"


# Several prompts at once, as evaluation asks for them.


def test_clips_of_several_prompts_are_those_of_each_alone(service):
    settings = [asked(prompt, seed=seed) for prompt, seed in [("a red circle", 5), ("fireworks", 5), ("fireworks", 6)]]
    together = [clip for step in service.generate_each(settings) for clip in step.finished]
    assert [(clip.settings.prompt, clip.seed, clip.index) for clip in together] == [
        ("a red circle", 5, 0),
        ("fireworks", 5, 0),
        ("fireworks", 6, 0),
    ]
    for clip, one in zip(together, settings, strict=True):
        assert np.array_equal(clip.frames, frames(service, one))
    assert len({clip.frames.tobytes() for clip in together}) == 3


def test_a_group_shares_its_passes_and_keeps_each_clip_its_own(service, calls, monkeypatch):
    monkeypatch.setitem(t2v.sampling.GROUPS, "cpu", 8)
    settings = [asked(seed=seed, guidance_scale=1.0) for seed in range(3)]
    together = [clip for step in service.generate_each(settings) for clip in step.finished]
    assert calls == [3, 3, 3]
    for clip, one in zip(together, settings, strict=True):
        assert np.array_equal(clip.frames, frames(service, one))


def test_settings_that_differ_in_more_cannot_be_drawn_together(service):
    with pytest.raises(AssertionError, match="only with equal settings"):
        next(service.generate_each([asked(), asked(num_steps=4)]))


def test_the_network_is_told_no_text_of_a_clip_without_caption(service, plain):
    told = service.text(["a red circle", ""], num_frames=5)
    assert told["pooled"].shape == (2, 6) and told["is_null"].tolist() == [False, True]
    assert told["mask"].sum(dim=1).tolist() == [4, 1] and told["tokens"].shape == (2, 4, 6)
    assert plain.text(["a red circle"], num_frames=5) is None


def test_the_network_is_told_the_interval_of_clips_of_another_length(make_checkpoint, fake_encoder):
    def intervals(data):
        name = f"{len(data)}.safetensors"
        checkpoint = make_checkpoint(name, cond_dim=fake_encoder.dim, recipe={"data": {"num_frames": 4} | data})
        service = GenerationService.load(checkpoint, device="cpu")
        return [service.text(["red"], num_frames=number)["interval"].item() for number in (4, 8)]

    at_a_rate, spread = intervals({}), intervals({"lengths": [4, 8]})
    assert at_a_rate == [125, 125]
    assert spread == [125, 62.5]
