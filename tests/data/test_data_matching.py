"""A name means the clip that is spelled so; whatever happens to a file, no caption reaches another clip."""

import csv
import io
import json
import random
import re
import shutil
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from t2v.data.caption_files import read_captions
from t2v.data.folder import scan_folder
from t2v.data.listing import Listing, stem
from t2v.data.matching import match
from t2v.data.metadata import Table
from t2v.data.metadata_rows import Row
from t2v.data.video_files import write_clip
from t2v.errors import DatasetError


def met(names, keys, *, folder=Path("/data/gifs"), where=""):
    """Which rows reach which clips: each row's caption is its name."""
    rows = tuple(Row("line 1", name, ((name, 1.0),)) for name in names)
    found = match(Table("metadata.csv", rows), {key: stem(key) for key in keys}, folder=folder, where=where)
    return {key: [name for name, _ in said] for key, said in found.said.items()}, list(found.lost)


@pytest.mark.parametrize(
    "name",
    [
        "sub/a b.gif",
        "./sub/a b.gif",
        "sub//x/../a b.gif",
        "sub\\a b.gif",
        ".\\sub\\a b.gif",
        " sub/a b.gif ",
        "sub/a b",
        "/data/gifs/sub/a b.gif",
        "/data/gifs/sub/a b",
        "/data/./gifs//sub/a b.gif",
    ],
)
def test_a_clip_is_found_however_its_path_is_written(name):
    assert met([name], ["sub/a b.gif", "a b.gif", "b.gif"]) == ({"sub/a b.gif": [name]}, [])


def test_paths_are_relative_to_the_folder_of_the_file_and_do_not_leave_it():
    keys = ["sub/a.gif", "a.gif", "subs/a.gif"]
    names = ["a.gif", "../a.gif", "/data/gifs/a.gif", "/data/gifs/sub/a.gif", "../sub/a.gif", "/data/gifs2/a.gif"]
    assert met(names, keys, where="sub") == (
        {"sub/a.gif": ["a.gif", "/data/gifs/sub/a.gif"]},
        ["../a.gif", "/data/gifs/a.gif", "../sub/a.gif", "/data/gifs2/a.gif"],
    )


def test_a_linked_folder_is_known_by_both_its_paths(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    names = [f"{tmp_path}/real/a.gif", f"{tmp_path}/link/a.gif"]
    assert met(names, ["a.gif"], folder=tmp_path / "link") == ({"a.gif": names}, [])


def test_an_exact_name_is_no_other_clip_s_name_without_ending():
    assert met(["a.gif"], ["a.gif", "a.gif.gif"]) == ({"a.gif": ["a.gif"]}, [])
    assert met(["a.gif.gif", "a"], ["a.gif", "a.gif.gif"]) == ({"a.gif.gif": ["a.gif.gif"], "a.gif": ["a"]}, [])


def test_a_name_without_ending_is_that_of_each_clip_that_differs_in_it_alone():
    assert met(["a"], ["a.gif", "a.GIF", "ab.gif"]) == ({"a.gif": ["a"], "a.GIF": ["a"]}, [])


def test_accents_are_known_in_both_spellings_unless_clips_differ_in_nothing_else():
    one, two = "caf\u00e9.gif", "cafe\u0301.gif"
    assert met([two], [one]) == ({one: [two]}, [])
    assert met([one, two], [one, two]) == ({one: [one], two: [two]}, [])
    third = "CAFE\u0301.gif"
    assert met(["./" + third], [one, two]) == ({}, ["./" + third])


@pytest.mark.parametrize("name", ["b.gif", "a.mp4", "A.gif", "", ".", "..", "/", "C:\\data\\gifs\\a.gif"])
def test_other_names_are_lost_and_not_guessed_at(name):
    assert met([name], ["a.gif"]) == ({}, [name])


def test_names_that_are_lost_can_be_told_in_a_line():
    assert met(["a\nb", "c" * 10_000], ["a.gif"]) == ({}, [r"'a\nb'", "c" * 100])


def test_a_quote_that_swallows_rows_is_found_by_the_clips_in_it(tmp_path):
    (tmp_path / "metadata.csv").write_text('file_name,caption\na.gif,"red\nb.gif,blue"\nc.gif,green\n')
    listing = Listing(
        {key: tmp_path / key for key in ("a.gif", "b.gif", "c.gif")}, {}, {"": tmp_path / "metadata.csv"}, ()
    )
    with pytest.raises(
        DatasetError, match=r"line 3: a cell of several lines holds the clip 'b\.gif'; close the double"
    ):
        read_captions(tmp_path, listing)
    (tmp_path / "metadata.csv").write_text('file_name,caption\na.gif,"red\nand, yes, blue"\nc.gif,green\n')
    assert read_captions(tmp_path, listing)[1][""].said["a.gif"] == (("red", 1.0), ("and, yes, blue", 1.0))


# Folders.


def tiny_gif(shade: int) -> bytes:
    path = Path(tiny_gif.folder) / f"{shade}.gif"
    if not path.exists():
        write_clip(path, np.full((2, 8, 8, 3), shade, dtype=np.uint8), frame_ms=100, metadata=None)
    return path.read_bytes()


@pytest.fixture(autouse=True, scope="module")
def gif_folder(tmp_path_factory):
    tiny_gif.folder = tmp_path_factory.mktemp("gifs")


def clips_in(folder, *keys):
    for number, key in enumerate(keys):
        (folder / key).parent.mkdir(parents=True, exist_ok=True)
        (folder / key).write_bytes(tiny_gif(number))


def captions_of(folder):
    return {clip.key: (clip.captions, clip.caption_source) for clip in scan_folder(folder).clips}


@pytest.mark.parametrize(
    "names", [("videos.txt", "prompts.txt"), ("Video.txt", "prompt.TXT"), ("videos.txt", "captions.txt")]
)
def test_a_pair_of_lists_gives_captions_and_is_no_caption_itself(tmp_path, names):
    clips_in(tmp_path, "videos/1.gif", "videos/2.gif", "videos/3.gif")
    (tmp_path / names[0]).write_text("videos/3.gif\nvideos/1.gif\nvideos/2.gif\n")
    (tmp_path / names[1]).write_text("three\none\n\n")
    assert captions_of(tmp_path) == {
        "videos/1.gif": (("one",), "metadata"),
        "videos/2.gif": ((), "empty"),
        "videos/3.gif": (("three",), "metadata"),
    }
    assert scan_folder(tmp_path).warnings == ()


def test_lists_named_like_clips_are_the_captions_of_those(tmp_path):
    clips_in(tmp_path, "videos.gif", "prompts.gif")
    (tmp_path / "videos.txt").write_text("many videos")
    (tmp_path / "prompts.txt").write_text("many prompts")
    assert captions_of(tmp_path) == {
        "prompts.gif": (("many prompts",), "text file"),
        "videos.gif": (("many videos",), "text file"),
    }


@pytest.mark.parametrize("other", ["metadata.csv", "video.txt", "captions.txt"])
def test_two_files_of_captions_in_one_folder_are_an_error(tmp_path, other):
    clips_in(tmp_path, "a.gif")
    for name in ("videos.txt", "prompts.txt", other):
        (tmp_path / name).write_text("file_name,caption\n" if name.endswith("csv") else "a.gif\n")
    with pytest.raises(DatasetError, match=rf"holds .*{re.escape(other)}.*; keep one file, or one pair"):
        scan_folder(tmp_path)


def test_a_file_that_names_no_clip_is_told(tmp_path):
    clips_in(tmp_path, "a.gif")
    (tmp_path / "captions.json").write_text("[]")
    assert scan_folder(tmp_path).warnings == ("captions.json names no clip",)


# Whatever happens to a folder, no caption reaches another clip. Every caption says the name of its clip, a word that
# nothing but that clip has.

KINDS = ("txt", "csv", "jsonl", "list", "object", "lists")


def word(draw: random.Random) -> str:
    return "".join(draw.choice("bcdfghjklmnpqrstvwz") + draw.choice("aeiou") for _ in range(4))


def caption(draw: random.Random, name: str) -> str:
    around = ["a red, round ball", 'says "hello"', "left;right", "ends with\\", "naïve café", "{x}", ""]
    return f"{draw.choice(around)} {name} {draw.choice(around)}".strip()


def write_folder(folder: Path, seed: int, kind: str) -> list[str]:
    """A folder of clips, a caption or several for most. Returns the files that hold captions."""
    draw = random.Random(seed)
    keys = [f"{draw.choice(['', 'sub/', 'sub/deep/'])}{word(draw)}.gif" for _ in range(draw.randint(2, 6))]
    clips_in(folder, *keys)
    told = [(key, [caption(draw, stem(key).split("/")[-1]) for _ in range(draw.randint(1, 3))]) for key in keys]
    told = [item for item in told if draw.random() < 0.8] or told[:1]
    draw.shuffle(told)
    spelled = [
        (draw.choice([key, f"./{key}", key.replace("/", "\\"), stem(key), f"{folder}/{key}"]), said)
        for key, said in told
    ]
    pairs = [(name, line) for name, said in spelled for line in said]
    table = io.StringIO(newline="")
    csv.writer(table).writerows([("file_name", "caption"), *pairs])
    content = {
        "txt": {f"{stem(key)}.txt": "\n".join(said) for key, said in told},
        "csv": {"metadata.csv": table.getvalue()},
        "jsonl": {"metadata.jsonl": "\n".join(json.dumps({"path": name, "cap": line}) for name, line in pairs)},
        "list": {"captions.json": json.dumps([{"video": name, "text": said} for name, said in spelled])},
        "object": {"captions.json": json.dumps(dict(spelled), indent=1)},
        "lists": {
            "videos.txt": "\n".join(name for name, _ in pairs),
            "prompts.txt": "\n".join(line for _, line in pairs),
        },
    }[kind]
    for name, text in content.items():
        (folder / name).write_text(text, encoding="utf-8", newline="")
    return list(content)


def emptied(folder: Path) -> Path:
    """The folder anew. One place for all examples: paths stand in the files, and an example has to repeat exactly."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


def shifted(folder: Path) -> list[str]:
    """Captions that say the name of another clip than theirs; those of file and folder names count as well."""
    scan = scan_folder(folder)
    names = {stem(path.name) for path in folder.rglob("*.gif")}
    return [
        f"{clip.key}: {said}"
        for clip in scan.clips
        for said in clip.captions
        if set(re.findall("[a-z]+", said)) & (names - {stem(clip.path.name)})
    ]


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=12)
@given(seed=st.integers(0, 2**32))
def test_every_clip_has_just_its_own_captions(tmp_path_factory, kind, seed):
    folder = emptied(tmp_path_factory.getbasetemp() / f"folder-{kind}")
    write_folder(folder, seed, kind)
    assert shifted(folder) == []
    scan = scan_folder(folder)
    assert all(stem(clip.path.name) in said for clip in scan.clips for said in clip.captions)
    assert scan.left_out == () and not [warning for warning in scan.warnings if "cannot be used" in warning]


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25)
@given(seed=st.integers(0, 2**32), data=st.data())
def test_no_damage_shifts_a_caption(tmp_path_factory, kind, seed, data):
    """Clips are lost or spoiled, bytes of the captions are cut, flipped, put in or left out."""
    folder = emptied(tmp_path_factory.getbasetemp() / f"folder-{kind}")
    files = write_folder(folder, seed, kind)
    draw = random.Random(seed + 1)
    for path in sorted(folder.rglob("*.gif")):
        fate = draw.random()
        if fate < 0.2:
            path.unlink()
        elif fate < 0.4:
            path.write_bytes(path.read_bytes()[:-9])
    path = folder / draw.choice(files)
    content = bytearray(path.read_bytes())
    # A pair of lists has nothing but its order: no reader could tell two changes that make up for each other.
    for _ in range(1 if kind == "lists" else data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, max(len(content) - 1, 0)))
        what = data.draw(st.sampled_from(["flip", "quote", "end", "cut", "insert", "line", "drop"]))
        if what == "cut":
            del content[at:]
        elif what == "drop":
            del content[at : at + data.draw(st.integers(1, 9))]
        elif what == "insert":
            content[at:at] = data.draw(st.binary(min_size=1, max_size=4))
        elif content:
            content[at] = {"quote": 0x22, "end": 0x0A, "line": 0x0D}.get(
                what, content[at] ^ 1 << data.draw(st.integers(0, 7))
            )
    path.write_bytes(content)
    with suppress(DatasetError):
        assert shifted(folder) == []
