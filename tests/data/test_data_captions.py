"""A clip's words come from the best place that has any, and a name that says nothing is not a caption."""

import pytest

from t2v.data.captions import Words, choose_words, fill_template, mentions_side, words_of_name
from t2v.data.matching import Metadata
from t2v.data.metadata_rows import lines_of


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
    """The words of a clip, where files of captions say that of it, by the folders that they lie in."""
    files = {
        "" if where == "top" else where: Metadata("metadata.csv", {key: tuple((caption, 1.0) for caption in captions)})
        for where, captions in metadata.items()
    }
    return choose_words(key, text=text, metadata=files)


def test_the_text_file_comes_first_then_metadata_then_the_name_then_the_folder():
    said = ("from metadata",)
    assert choose("cats/red cat.gif", text="from text\n", top=said)[:2] == (("from text",), "text file")
    assert choose("cats/red cat.gif", top=said)[:2] == (said, "metadata")
    assert choose("cats/red cat.gif") == Words(("red cat",), "file name")
    assert choose("cats/IMG_1.gif") == Words(("cats",), "folder name")
    assert choose("train/IMG_1.gif") == Words((), "none")


def test_the_nearest_folder_that_says_something_counts():
    assert choose("animals/big_dogs/0001/12.gif").captions == ("big dogs",)


def test_metadata_of_the_nearest_folder_counts():
    assert choose("a/x.gif", top=("far",), a=("near",)).captions == ("near",)


@pytest.mark.parametrize("words", [{"text": " \n"}, {"top": ("",)}, {"top": ("", "")}])
def test_an_empty_caption_means_none_and_no_search_goes_on(words):
    assert choose("red cat.gif", **words)[:2] == ((), "empty")


def test_an_empty_caption_among_others_is_drawn_like_them():
    assert choose("a.gif", top=("red", "")).captions == ("red", "")


def test_lines_are_captions_without_blanks_and_needless_spaces():
    assert lines_of("one\r\n\n  two  words \none\n") == ["one", "two words", "one"]


def test_a_caption_twice_counts_once_and_is_told():
    words = choose("a.gif", text="one\ntwo\none\n")
    assert words.captions == ("one", "two")
    assert words.doubts == ("with the same caption twice, which counts once",)
    assert choose("a.gif", text="one\ntwo\n").doubts == ()


def test_places_that_contradict_each_other_are_told():
    words = choose("a/x.gif", text="one", top=("two",), a=("one",))
    assert words.doubts == ("with other captions in metadata.csv than in its .txt, which counts",)
    assert choose("a/x.gif", a=("one", "two"), top=("two", "one")).doubts == ()


def test_weights_that_are_all_alike_are_none():
    def weights(*given):
        said = tuple((f"caption {number}", weight) for number, weight in enumerate(given))
        return choose_words("a.gif", text=None, metadata={"": Metadata("captions.json", {"a.gif": said})}).weights

    assert weights(2.0, 2.0) == ()
    assert weights(2.0, 1.0, 2.0) == (2.0, 1.0, 2.0)


def test_a_template_takes_each_caption_in_and_leaves_what_has_no_text():
    words = Words(("cat", "", "dog"), "metadata", (1.0, 2.0, 3.0))
    assert fill_template("a sprite of {caption}!", words) == words._replace(
        captions=("a sprite of cat!", "", "a sprite of dog!")
    )
    for source in ("none", "empty"):
        assert fill_template("a {caption}", Words((), source)) == Words((), source)


def test_a_template_without_placeholder_is_the_caption_of_every_clip():
    words = Words(("cat", "", "dog"), "metadata", (1.0, 2.0, 3.0))
    assert fill_template("fireworks", words) == words._replace(captions=("fireworks", ""), weights=(4.0, 2.0))
    assert fill_template("fireworks", Words(("a", "b"), "text file")) == Words(("fireworks",), "text file")
    assert fill_template("fireworks", Words((), "none")) == Words(("fireworks",), "template")
    assert fill_template("fireworks", Words((), "empty")) == Words((), "empty")
