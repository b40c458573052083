"""Which files are clips follows from rules that can be read, and what they leave out is said."""

from pathlib import Path

import pytest

from t2v.data.listing import claims_other, list_folder, stem
from t2v.errors import DatasetError


@pytest.fixture
def put(tmp_path, good_files):
    """Write files below a folder by their names: pictures that are one, and whatever else."""

    def put(*names: str) -> Path:
        contents = {".png": "still png", ".jpg": "still jpeg", ".webp": "still webp", ".gif": "gif", ".mp4": "mp4"}
        for name in names:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            kind = contents.get(path.suffix.lower())
            path.write_bytes(good_files[kind][0] if kind else b"file_name,caption\n")
        return tmp_path

    return put


def clips(folder: Path, **options) -> dict[str, list[str]]:
    listing = list_folder(folder, **options)
    return {key: [path.relative_to(folder).as_posix() for path in paths] for key, paths in listing.clips.items()}


def test_every_format_is_found_by_its_ending_in_any_case(put):
    names = ["a.GIF", "b.webp", "c.png", "d.apng", "e.jpg", "f.JPEG", "g.mp4", "h.m4v", "i.mov", "j.webm", "k.mkv"]
    folder = put(*names, "l.avi", "notes.md", "m.txt", "n.tiff")
    assert clips(folder) == {name: [name] for name in [*names, "l.avi"]}


def test_a_subfolder_of_numbered_pictures_is_one_clip_in_the_order_of_its_numbers(put):
    folder = put("walk/f2.png", "walk/f10.png", "walk/f1.png", "deep/down/take2_0001.jpg", "deep/down/take2_0002.jpg")
    assert clips(folder) == {
        "deep/down": ["deep/down/take2_0001.jpg", "deep/down/take2_0002.jpg"],
        "walk": ["walk/f1.png", "walk/f2.png", "walk/f10.png"],
    }
    assert list_folder(folder).notes == ("the numbered frames of walk lack 3, 4, 5, 6, 7 and 2 more",)


def test_whole_sequences_are_not_remarked_upon(put):
    assert list_folder(put("walk/7.png", "walk/8.png", "walk/9.png", "walk/10.png")).notes == ()


@pytest.mark.parametrize(
    "names",
    [
        ["1.png", "2.png"],  # the top folder has no name
        ["a/1.png"],
        ["a/1.png", "a/2.jpg"],
        ["a/1.png", "a/2.png", "a/cover.png"],
        ["a/x1.png", "a/y2.png"],
        ["a/1_1.png", "a/2_2.png"],
        ["a/1.png", "a/01.png"],
        ["a/1.png", "a/2.png", "a/3.gif"],
        ["a/1.png", "a/2.png", "a/2.txt"],
        ["a/1.png", "a/2.png", "a/metadata.csv"],
        ["a/1" + "0" * 30 + ".png", "a/2.png"],
    ],
)
def test_all_other_pictures_are_stills(names, put):
    pictures = [name for name in names if not name.endswith((".txt", ".csv"))]
    assert clips(put(*names)) == {name: [name] for name in pictures}


def test_numbered_animations_are_clips_of_their_own(put, good_files):
    folder = put("a/1.webp", "a/2.webp", "b/1.png", "b/2.png")
    for name, kind in (("a/1.webp", "webp"), ("b/1.png", "png")):
        (folder / name).write_bytes(good_files[kind][0])
    assert list(clips(folder)) == ["a/1.webp", "a/2.webp", "b/1.png", "b/2.png"]


def test_words_that_belong_to_no_picture_leave_a_folder_of_frames_what_it_is(put):
    folder = put("walk/1.png", "walk/2.png", "walk/about.txt", "walk.txt")
    assert list(clips(folder)) == ["walk"]
    assert stem("walk") in list_folder(folder).texts


@pytest.mark.parametrize("ending", [".png", ".jpg", ".webp"])
def test_a_picture_beside_a_clip_of_its_name_is_a_thumbnail(ending, put, good_files):
    folder = put("cat.mp4", f"cat{ending}", f"dog{ending}")
    listing = list_folder(folder)
    assert list(listing.clips) == ["cat.mp4", f"dog{ending}"]
    assert [item.key for item in listing.left_out] == [f"cat{ending}"]
    assert "rename it to train on it" in listing.left_out[0].reason
    if ending == ".webp":
        (folder / "cat.webp").write_bytes(good_files["webp"][0])
        assert list(list_folder(folder).clips) == ["cat.mp4", "cat.webp", "dog.webp"]


def test_only_the_formats_asked_for_are_looked_at(put):
    folder = put("a.gif", "a.png", "b.mp4", "c.png", "walk/1.png", "walk/2.png", "x/1.jpg", "x/2.jpg")
    assert list(clips(folder, formats=("gif",))) == ["a.gif"]
    assert list_folder(folder, formats=("gif",)).left_out == ()
    assert list(clips(folder, formats=("gif", "png"))) == ["a.gif", "c.png", "walk/1.png", "walk/2.png"]
    assert list(clips(folder, formats=("frames",))) == ["walk", "x"]
    with pytest.raises(DatasetError, match=r"holds no files that end in \.webm; add clips"):
        list_folder(folder, formats=("webm",))
    with pytest.raises(DatasetError, match="holds no folders of numbered frames; add clips"):
        list_folder(put("deep/a.gif") / "deep", formats=("frames",))


def test_a_link_that_leads_away_is_no_frame(put, tmp_path_factory, good_files):
    away = tmp_path_factory.mktemp("away") / "3.png"
    away.write_bytes(good_files["still png"][0])
    folder = put("walk/1.png", "walk/2.png")
    (folder / "walk/3.png").symlink_to(away)
    listing = list_folder(folder)
    assert clips(folder) == {"walk": ["walk/1.png", "walk/2.png"]}
    assert [item.key for item in listing.left_out] == ["walk/3.png"]


@pytest.mark.parametrize(
    ("key", "expected"),
    [("a.gif", "a"), ("b/c.d.MP4", "b/c.d"), ("walk", "walk"), ("v1.2/take", "v1.2/take"), ("v1.2", "v1.2")],
)
def test_a_stem_is_a_key_without_the_ending_of_a_file(key, expected):
    assert stem(key) == expected


@pytest.mark.parametrize(
    ("key", "name", "expected"),
    [
        ("a.gif", "gif", False),
        ("a.gif", "webp", True),
        ("a.PNG", "jpeg", True),
        ("a.m4v", "mov", False),
        ("a.mkv", "webm", False),
        ("walk", "frames", False),
    ],
)
def test_a_name_that_claims_another_format_is_known(key, name, expected):
    assert claims_other(key, name) is expected
