"""The page as programs see it: named endpoints, through gradio_client or plain HTTP, that answer in sentences."""

import concurrent.futures
import json
from pathlib import Path

import av
import httpx
import numpy as np
import pytest
import torch
from gradio_client.exceptions import AppError
from gradio_client.utils import QueueError
from PIL import Image, ImageSequence

from t2v.config import GenerationSettings
from t2v.data.made_by import read_made_by
from t2v.data.reading import read_clip
from t2v.page.shelf import FILE_SIDE, MEDIA_TYPES
from t2v.service import GenerationService, save_clip

SCALE = FILE_SIDE // 8  # the page's model draws 8 pixels
PATIENCE_S = 60


@pytest.fixture(scope="module")
def client(page, connect):
    return connect(page.address)


def generate(client, prompt="fireworks at night", **choices):
    """Files and the report."""
    files, report = client.predict(prompt, **{"num_steps": 3, "seed": 3} | choices, api_name="/generate")
    return [Path(file) for file in files], report


def frames_in(file):
    """uint8 f h w c, as a viewer shows them."""
    if file.suffix == ".mp4":
        with av.open(file) as video:
            return np.stack([frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)])
    return np.stack([np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(Image.open(file))])


def test_a_clip_comes_with_its_settings(client):
    [file], report = generate(client, num_steps=4)
    told = read_made_by(file)
    assert told["prompt"] == "fireworks at night" and told["seed"] == 3 and told["num_frames"] == 3
    assert report["clips"][0]["seed"] == 3 and report["done"] == report["total"] == 4


@pytest.mark.parametrize("file_format", MEDIA_TYPES)
def test_several_clips_come_in_the_format_asked_for(client, file_format):
    files, report = generate(client, num_clips=2, file_format=file_format)
    assert [read_made_by(file)["clip"] for file in files] == [clip["clip"] for clip in report["clips"]] == [0, 1]
    assert all(file.suffix == f".{file_format}" for file in files)
    clips = [frames_in(file) for file in files]
    assert all(clip.shape == (3, FILE_SIDE, FILE_SIDE, 3) for clip in clips)
    assert (clips[0] != clips[1]).any()


def test_a_video_plays_everywhere(client):
    [file], _ = generate(client, file_format="mp4")
    with av.open(file) as video:
        stream = video.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt) == ("h264", "yuv420p")


def test_equal_seeds_give_the_clip_of_the_command_line(page, client, fake_encoder, tmp_path):
    settings = GenerationSettings(prompt="green night", num_steps=3, seed=11, num_clips=2)
    service = GenerationService.load(page.checkpoint)
    clips = [clip for step in service.generate(settings) for clip in step.finished]
    files, _ = generate(client, "green night", seed=11, num_clips=2, file_format="webp")
    for file, clip in zip(files, clips, strict=True):
        assert (frames_in(file) == clip.frames.repeat(SCALE, axis=1).repeat(SCALE, axis=2)).all()
        save_clip(clip, tmp_path / "clip.webp", scale=SCALE)
        assert file.read_bytes() == (tmp_path / "clip.webp").read_bytes()
    [other], _ = generate(client, "green night", seed=12, file_format="webp")
    assert (frames_in(other) != frames_in(files[0])).any()


OTHER_THAN_DEFAULT = {
    "prompt": "slow fireworks",
    "negative": "green",
    "num_frames": 4,
    "size": 16,
    "num_steps": 2,
    "sampler": "euler",
    "spacing": "uniform",
    "eta": 0.5,
    "temperature": 0.9,
    "noise_dropout": 0.1,
    "guidance_scale": 3.5,
    "guidance_curve": "4,1",
    "guidance_low": 0.1,
    "guidance_high": 0.95,
    "guidance_rescale": 0.7,
    "threshold": "dynamic",
    "percentile": 0.8,
    "own_noise": True,
    "seed": 2**40,
    "num_clips": 2,
    "fps": 12.5,
}


def test_every_setting_reaches_the_clip(client):
    assert OTHER_THAN_DEFAULT.keys() == GenerationSettings.model_fields.keys()
    files, report = generate(client, **OTHER_THAN_DEFAULT)
    for told in [*map(read_made_by, files), *report["clips"]]:
        assert {name: told[name] for name in OTHER_THAN_DEFAULT} == OTHER_THAN_DEFAULT
    assert read_clip(files[0]).frames.shape[0] == 4 and list(read_clip(files[0]).frame_ms) == [80] * 4


@pytest.mark.parametrize("change", [{"negative": "green"}, {"guidance_scale": 5.0}, {"sampler": "ddpm"}])
def test_what_reaches_the_clip_changes_it(client, change):
    before, after = (frames_in(generate(client, file_format="webp", **more)[0][0]) for more in ({}, change))
    assert (before != after).any()


def test_a_seed_left_open_is_drawn_and_told(client):
    seeds = [generate(client, seed=None)[1]["clips"][0]["seed"] for _ in range(2)]
    assert seeds[0] != seeds[1]
    [file], _ = generate(client, seed=seeds[0])
    assert read_made_by(file)["seed"] == seeds[0]


def test_another_checkpoint_can_be_named(client):
    [file], _ = generate(client, checkpoint="checkpoints/other.safetensors")
    assert read_made_by(file)["checkpoint"] == "other.safetensors"


def test_the_parameters_are_the_generation_settings(client):
    told = client.view_api(return_format="dict", print_info=False)["named_endpoints"]["/generate"]["parameters"]
    parameters = {one["parameter_name"]: one for one in told}
    fields = GenerationSettings.model_fields
    assert [*parameters] == [*fields, "checkpoint", "file_format"]
    assert not parameters["prompt"]["parameter_has_default"]
    for name, field in list(fields.items())[1:]:
        assert parameters[name]["parameter_has_default"] and parameters[name]["parameter_default"] == field.default


def test_only_what_programs_need_is_offered_to_them(client):
    told = client.view_api(return_format="dict", print_info=False)
    assert set(told["named_endpoints"]) == {"/generate", "/checkpoints", "/runs"} and not told["unnamed_endpoints"]


def test_every_checkpoint_says_what_it_can_do(page, client):
    told = {one["name"]: one for one in client.predict(api_name="/checkpoints")}
    assert [*told] == page.studio.models.names()
    assert told[str(page.checkpoint)] == {
        "name": str(page.checkpoint),
        "num_frames": 3,
        "size": 8,
        "steps_trained": 7,
        "num_words": 5,
        "example_prompts": ["fireworks at night"],
    }
    assert "broken.safetensors" in told["checkpoints/broken.safetensors"]["error"]


def test_words_that_no_caption_had_are_noted(client):
    _, report = generate(client, "fierworks at dawn")
    assert report["notes"] == ["the words 'fierworks' (the nearest is 'fireworks') and 'dawn' were in no caption"]
    assert generate(client)[1]["notes"] == []


MISTAKES = [
    ({"prompt": " "}, "The prompt is empty; say what to draw, such as 'fireworks at night'."),
    ({"prompt": "a" * 1001}, "Prompt: String should have at most 1000 characters, not"),
    ({"prompt": 7}, "Prompt: Input should be a valid string, not 7."),
    ({"prompt": None}, "Prompt: Input should be a valid string, not None."),
    ({"negative": "a" * 1001}, "Negative: String should have at most 1000 characters, not"),
    ({"num_steps": 0}, "Num_steps: Input should be greater than or equal to 1, not 0."),
    ({"num_steps": 1001}, "Num_steps: Input should be less than or equal to 1000, not 1001."),
    ({"num_steps": "many"}, "Num_steps: Input should be a valid integer, unable to parse string as an integer, not"),
    ({"num_steps": [4]}, "Num_steps: Input should be a valid integer, not [4]."),
    ({"num_frames": 129}, "Num_frames: Input should be less than or equal to 128, not 129."),
    ({"size": 9}, "Size must be a multiple of 2 with this model, not 9; try 8."),
    ({"sampler": "magic"}, "Sampler: Input should be 'ddim', 'ddpm', 'dpmpp_2m',"),
    ({"eta": "nan"}, "Eta: Input should be"),
    ({"seed": -1}, "Seed: Input should be greater than or equal to 0, not -1."),
    ({"num_clips": 65}, "Num_clips: Input should be less than or equal to 64, not 65."),
    ({"fps": 99}, "A GIF shows 0.01 to 50 frames a second, not 99; write .mp4 or .webm."),
    ({"checkpoint": "none"}, "There is no checkpoint 'none' here any more; choose another."),
    ({"checkpoint": "/etc/passwd"}, "There is no checkpoint '/etc/passwd' here any more; choose another."),
    ({"checkpoint": ["none"]}, "There is no checkpoint \"['none']\" here any more; choose another."),
    ({"checkpoint": "checkpoints/broken.safetensors"}, "broken.safetensors"),
    ({"file_format": "exe"}, "File_format must be one of gif, mp4, webp, not 'exe'."),
    ({"file_format": ["gif"]}, "File_format must be one of gif, mp4, webp, not ['gif']."),
]


@pytest.mark.parametrize("choices, sentence", MISTAKES, ids=[str(choices)[:40] for choices, _ in MISTAKES])
def test_a_mistake_is_answered_by_a_sentence(page, client, choices, sentence, capfd):
    with pytest.raises(AppError) as answer:
        generate(client, **choices)
    text = answer.value.message
    assert sentence in text and text.endswith(".") and "\n" not in text and len(text) < 300
    assert capfd.readouterr().err == ""  # it was foreseen
    assert not page.studio.stops._under_way


FULL = (
    "[enforce fail at alloc_cpu.cpp:124] . DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes."
)


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory."), RuntimeError(FULL), MemoryError()], ids=lambda e: type(e)
)
def test_without_memory_the_page_says_what_would_help_and_lives_on(page, client, monkeypatch, error):
    def fail(*args, **options):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr("t2v.model.Unet3D.forward", fail)
        with pytest.raises(AppError) as answer:
            generate(client)
        assert answer.value.message == (
            "3 frames of 8 pixels need more memory than is free; try fewer frames or a smaller size."
        )
    assert len(generate(client)[0]) == 1


def test_what_nobody_foresaw_ends_one_request_and_tells_nothing_of_the_machine(page, client, monkeypatch, capfd):
    def fail(*args, **options):
        raise ZeroDivisionError(f"in {__file__}")

    with monkeypatch.context() as patch:
        patch.setattr("t2v.model.Unet3D.forward", fail)
        with pytest.raises(AppError) as answer:
            generate(client)
    assert __file__ not in str(answer.value)
    assert "ZeroDivisionError" in capfd.readouterr().err
    assert len(generate(client)[0]) == 1


def test_plain_http_will_do(page):
    with httpx.Client(base_url=page.address, timeout=PATIENCE_S) as http:
        asked = {"prompt": "green fireworks", "num_steps": 2, "seed": 5}
        event = http.post("gradio_api/call/v2/generate", json=asked).json()["event_id"]
        answer = http.get(f"gradio_api/call/generate/{event}").text
        last = answer.split("event: complete\ndata: ")[1].strip()
        [file], report = json.loads(last)
        assert report["clips"][0]["prompt"] == "green fireworks"
        assert http.get(file["url"]).content[:6] == b"GIF89a"


def test_a_tab_that_stayed_open_while_the_server_was_started_again_goes_on(page):
    with httpx.Client(base_url=page.address, timeout=PATIENCE_S) as http:
        config = http.get("config").json()
        draw = next(one["id"] for one in config["dependencies"] if any("submit" in target for target in one["targets"]))
        settings = GenerationSettings(prompt="green", num_steps=2, num_frames=3, size=8).model_dump().values()
        asked = {"data": [str(page.checkpoint), True, None, *settings], "fn_index": draw, "session_hash": "unknown"}
        http.post("gradio_api/queue/join", json=asked).raise_for_status()
        answer = http.get("gradio_api/queue/data", params={"session_hash": "unknown"}).text
        assert "clips/" in answer and "error" not in answer


def test_a_request_beyond_the_line_is_refused_in_words(serve, connect, gate, until):
    client = connect(serve(max_waiting=1))
    gate.shut(after=1)
    drawing = client.submit("green", num_steps=2, api_name="/generate")
    gate.wait_for_calls(2)
    waiting = client.submit("night", num_steps=2, api_name="/generate")
    until(lambda: waiting.status().queue_size)
    with pytest.raises(QueueError, match="Queue is full"):
        client.submit("slow", num_steps=2, api_name="/generate").result(timeout=PATIENCE_S)
    gate.open()
    for job, prompt in ((drawing, "green"), (waiting, "night")):
        [file], _ = job.result(timeout=PATIENCE_S)
        assert read_made_by(Path(file))["prompt"] == prompt


def test_a_cancelled_request_is_drawn_no_further_and_makes_room(page, connect, gate, until):
    first, second = connect(page.address), connect(page.address)
    gate.shut(after=3)
    job = first.submit("green", num_steps=1000, api_name="/generate")
    gate.wait_for_calls(4)
    with concurrent.futures.ThreadPoolExecutor() as threads:
        cancelled = threads.submit(job.cancel)  # it comes back when the step at work is done
        gate.open()
        cancelled.result(timeout=PATIENCE_S)
    assert len(generate(second)[0]) == 1
    assert gate.calls < 900
    until(lambda: not page.studio.stops._under_way)
