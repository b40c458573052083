"""A clip's words come from the best place that has any, and a name that says nothing is not a caption."""

import pytest

from t2v.data.captions import Metadata, caption_lines, choose_words, mentions_side, read_metadata_file, words_of_name
from t2v.errors import DatasetError


@pytest.mark.parametrize(
    "caption",
    [
        "skeleton walking left",
        "Right turn",
        "a left-handed man",
        "right-hand side",
        "moving leftwards",
        "turn_left",
        "the leftmost ball",
        "left.",
        "spinning clockwise",
        "rolls counter-clockwise",
    ],
)
def test_captions_with_a_side_are_known(caption):
    assert mentions_side(caption)


@pytest.mark.parametrize(
    "caption",
    ["bright light", "an upright bear", "copyright", "leftover soup", "righteous", "alright", "cleft", "a clock"],
)
def test_words_that_only_contain_a_side_do_not_count(caption):
    assert not mentions_side(caption)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("airplane-landing", "airplane landing"),
        ("red_circle bounces (2)", "red circle bounces"),
        ("v_ApplyEyeMakeup_g01_c01", "apply eye makeup"),
        ("cat001", "cat"),
        ("giphy-dancing-cat", "dancing cat"),
        ("a man in a tv", "a man in a tv"),
        ("кот бежит", "кот бежит"),
        ("猫", "猫"),
        ("ROFL", "ROFL"),
        ("d41d8cd98f00b204 sunset", "sunset"),
    ],
)
def test_names_made_of_words_are_captions(name, words):
    assert words_of_name(name) == words


@pytest.mark.parametrize(
    "name",
    [
        "IMG_0042",
        "DSC_0307",
        "0042",
        "2024-01-31",
        "3o7TKSjRrfIPjeiVyM",
        "l0HlBO7eyXzSZkJri",
        "d41d8cd98f00b204e9800998ecf8427e",
        "550e8400-e29b-41d4-a716-446655440000",
        "giphy (3)",
        "tumblr_mz5yz1",
        "clip",
        "a",
        "of to",
        "",
    ],
)
def test_names_that_say_nothing_are_not(name):
    assert words_of_name(name) is None


def choose(key, *, text=None, **metadata):
    files = {"" if where == "top" else where: Metadata("metadata.csv", rows) for where, rows in metadata.items()}
    return choose_words(key, text=text, metadata=files)


def test_the_text_file_comes_first_then_metadata_then_the_name_then_the_folder():
    rows = {"cats/red cat.gif": ("from metadata",)}
    assert choose("cats/red cat.gif", text="from text\n", top=rows) == (("from text",), "text file")
    assert choose("cats/red cat.gif", top=rows) == (("from metadata",), "metadata")
    assert choose("cats/red cat.gif") == (("red cat",), "file name")
    assert choose("cats/IMG_1.gif") == (("cats",), "folder name")
    assert choose("train/IMG_1.gif") == ((), "none")


def test_the_nearest_folder_that_says_something_counts():
    assert choose("animals/big_dogs/0001/12.gif").captions == ("big dogs",)


def test_metadata_of_the_nearest_folder_counts():
    found = choose("a/x.gif", top={"a/x.gif": ("far",)}, a={"x.gif": ("near",)})
    assert found.captions == ("near",)


@pytest.mark.parametrize("words", [{"text": " \n"}, {"top": {"red cat.gif": ()}}])
def test_an_empty_caption_means_none_and_no_search_goes_on(words):
    assert choose("red cat.gif", **words) == ((), "none")


def test_lines_are_captions_without_blanks_and_doubles():
    assert caption_lines("one\r\n\n  two  words \none\n") == ("one", "two words")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("metadata.csv", 'file_name,caption\na.gif,"red, round"\na.gif,again\nsub/b.gif,\n'),
        ("metadata.csv", 'Extra,Video_Path,Text\r\n1,./a.gif,"red, round"\r\n2,a.gif,again\r\n3,sub\\b.gif,\r\n'),
        (
            "metadata.jsonl",
            '{"file_name": "a.gif", "text": ["red, round", "again"]}\n\n{"file": "sub/b.gif", "prompt": null}\n',
        ),
    ],
)
def test_metadata_is_read_in_its_usual_spellings(tmp_path, name, text):
    (tmp_path / name).write_text("\ufeff" + text, encoding="utf-8", newline="")
    captions = read_metadata_file(tmp_path / name).captions
    assert captions == {"a.gif": ("red, round", "again"), "sub/b.gif": ()}


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("metadata.csv", b"name,caption\na.gif,x\n", r"line 2 has no file_name \(or .*\); it has name, caption"),
        ("metadata.csv", b"file_name,label\na.gif,x\n", r"line 2 has no caption"),
        ("metadata.csv", b"file_name,caption\na.gif,caf\xe9\n", "is not UTF-8 text"),
        ("metadata.jsonl", b'{"file_name": "a.gif", "text": "x"}\n[1]\n', "line 2 is not a JSON object"),
        ("metadata.jsonl", b'{"file_name": "a.gif"', "line 1 is not a JSON object"),
        ("metadata.jsonl", b'{"file_name": "a.gif", "text": 7}', "line 1: a caption must be text, not 7"),
    ],
)
def test_unusable_metadata_is_an_error_and_never_a_silence(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DatasetError, match=said):
        read_metadata_file(tmp_path / name)
