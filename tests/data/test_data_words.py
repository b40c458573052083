"""What a prompt says that no caption said is told in one line, with the word that was perhaps meant."""

import pytest

from t2v.data.words import (
    MAX_WORDS,
    is_filled,
    most_frequent,
    nearest_word,
    unseen_sentence,
    unseen_words,
    vocabulary,
)

KNOWN = ("boxes", "circle", "city", "fireworks", "moving", "purple", "run")


def test_a_vocabulary_counts_the_captions_that_have_a_word():
    assert vocabulary(["A cat, a CAT!", "cat's nap", ""]) == {"a": 1, "cat": 2, "s": 1, "nap": 1}


def test_the_most_frequent_words_are_kept_in_order():
    captions = ["c b a", "c b", "c d"]
    assert most_frequent(captions) == ("a", "b", "c", "d")
    assert most_frequent(captions, most=3) == ("a", "b", "c")
    assert most_frequent(reversed(captions), most=3) == ("a", "b", "c")


@pytest.mark.parametrize(
    ("prompt", "unseen"),
    [
        ("The purple circle's run, by a city", ()),
        ("circles, a box, cities and a firework", ()),
        ("purble dragons at the city", ("purble", "dragons")),
        ("dragon dragon", ("dragon",)),
        ("紫の円", ()),
        ("кот", ("кот",)),
    ],
)
def test_function_words_and_plurals_are_not_unseen(prompt, unseen):
    assert unseen_words(prompt, KNOWN) == unseen


@pytest.mark.parametrize(
    ("word", "near"), [("purble", "purple"), ("running", "run"), ("cir", "circle"), ("dragon", None), ("ru", "run")]
)
def test_the_nearest_word_is_spelled_almost_alike_or_begins_alike(word, near):
    assert nearest_word(word, KNOWN) == near


def test_one_line_tells_all():
    assert unseen_sentence("a purple circle", KNOWN) is None
    assert unseen_sentence("a dragon", ()) is None
    assert unseen_sentence("a dragon", KNOWN) == "the word 'dragon' was in no caption"
    assert unseen_sentence("purble", KNOWN) == "the word 'purble' was in no caption; the nearest is 'purple'"
    assert unseen_sentence("purble dragon", KNOWN) == (
        "the words 'purble' (the nearest is 'purple') and 'dragon' were in no caption"
    )
    many = unseen_sentence(" ".join(f"dragon{number}" for number in range(9)), KNOWN)
    assert many.count("'dragon") == 5
    assert many.endswith(" and 4 more were in no caption")


def test_of_a_list_that_may_be_cut_no_more_is_claimed_than_is_known():
    words = tuple(f"word{number}" for number in range(MAX_WORDS))
    assert unseen_sentence("dragon", words) == "the word 'dragon' was not among the 5,000 most frequent of the captions"


def test_a_prompt_is_like_a_template_with_all_that_stands_around_the_caption():
    template = "a pixel sprite of {caption}, 8-bit"
    assert is_filled(template, "A pixel sprite of a cat, 8-bit")
    assert not is_filled(template, "a cat")
    assert not is_filled(template, "8 bit: a pixel sprite of a cat")
    assert is_filled("", "a cat")
