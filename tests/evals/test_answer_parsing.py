"""How answers are read: the words of open ones, and the letters of choices."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynfocus.evals.answers import match_answer, normalize_answer, normalize_text, parse_choice

ANIMALS = ("a cat", "the dog", "two birds", "none of the above")
PEOPLE = ("C stops scrolling", "C washes a pan", "The man leaves", "C's friend waves", "Nobody moves")


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("Star Red.", "star red"),
        (" star,  RED!</s>", "star red"),
        ("<|im_end|>", ""),
        ("The end.<|eot_id|>", "end"),
        ("an apple a day", "apple day"),
        ("The", "the"),
        ("don't", "dont"),
        ("don’t", "dont"),
        ("'red'", "red"),
        ("star red</s> USER: what else", "star red"),
        ("<s> star red<|im_end|>\n<|im_start|>user", "star red"),
        ("</s>star red", "star red"),
        ("star <unk>", "star unk"),
        ("1,000 stars", "1000 stars"),
        ("1, 2", "1 2"),
        ("-5", "minus 5"),
        ("3-5", "3 5"),
        ("की", "की"),
        ("red ❤️", "red"),
        ("红色。", "红色"),
        ("Straße", "strasse"),
        ("ＡＢＣ", "abc"),
        ("3.5 km", "3 5 km"),
        ("well_known", "well known"),
    ],
)
def test_texts_have_one_normal_form(text: str, normal: str) -> None:
    assert normalize_text(text) == normal


@given(st.text(max_size=20))
def test_a_normal_form_stays(text: str) -> None:
    once = normalize_text(text)
    assert normalize_text(once) == once


@pytest.mark.parametrize(
    ("answer", "truth", "correct"),
    [
        ("Dogs.", "dog", True),
        ("the boxes", "box", True),
        ("two", "2", True),
        ("Two children", "2 child", True),
        ("knives", "a knife", True),
        ("babies", "baby", True),
        ("grass", "gras", False),
        ("bus", "bu", False),
        ("Yes, he is.", "yes", True),
        ("No</s>", "no", True),
        ("yes", "no", False),
        ("nothing", "no", False),
        ("not yes", "yes", False),
        ("a red car", "red", False),
        ("का", "की", False),
        ("-5", "5", False),
        ("1,000", "1000", True),
        ("", "red", False),
        ("cooking", "cook", False),
    ],
)
def test_open_answers(answer: str, truth: str, correct: bool) -> None:
    assert match_answer(answer, truth) == correct


# Kinds of replies that people report of video models, in our own words; None: no answer can be read.
REPLIES = [
    ("B", "B"),
    ("b", "B"),
    (" B\n", "B"),
    ("(B)", "B"),
    ("B.", "B"),
    ("B)", "B"),
    ("[B]", "B"),
    ("**B**", "B"),
    ("`B`", "B"),
    ("B</s>", "B"),
    ("B<|im_end|>", "B"),
    ("<s> B</s> USER: is it A", "B"),
    ("B. the dog", "B"),
    ("B: the dog", "B"),
    ("(B) the dog", "B"),
    ("B, because it barks.", "B"),
    ("B) It is the dog", "B"),
    ("B - the dog", "B"),
    ("**B.** the dog", "B"),
    ("\\boxed{B}", "B"),
    ("So we get $\\boxed{\\text{B}}$.", "B"),
    ("A and C are wrong. \\boxed{B}", "B"),
    ("The answer is B", "B"),
    ("The answer is B.", "B"),
    ("The answer is (B).", "B"),
    ("The answer is: B", "B"),
    ("the correct answer would be B", "B"),
    ("Answer: B", "B"),
    ("ANSWER: B", "B"),
    ("Answer:\nB", "B"),
    ("Best option: C", "C"),
    ("Best Option: (C)", "C"),
    ("The best option is C.", "C"),
    ("The correct option is C", "C"),
    ("I would choose C", "C"),
    ("Option D", "D"),
    ("Antwort: B", "B"),
    ("答案是B", "B"),
    ("答案：B", "B"),
    ("Answer: (b)", "B"),
    ("I choose option b", "B"),
    ("My answer is a cat", "A"),
    ("I choose a", None),
    ("My first answer was A. On reflection the answer is B.", "B"),
    ("not A, so D", "D"),
    ("It isn't A. It must be B", "B"),
    ("Rule out (A). The answer is not C. (B)", "B"),
    ("the dog", "B"),
    ("The dog.", "B"),
    ("It is the dog that barks", "B"),
    ("I see two birds", "C"),
    ("2 birds", "C"),
    ("None of the above", "D"),
    ("I think it is B here", None),
    ("I think it is B", "B"),
    ("It shows (C), clearly", "C"),
    ("It shows (B) or (C)", None),
    ("a cat and the dog", None),
    ("Answer", None),
    ("Antwort", None),
    ("Based on the video", None),
    ("A video of something", None),
    ("A man walks his pet", None),
    ("", None),
    ("</s>", None),
    ("E", None),
    ("The answer is E", None),
    ("I cannot tell.", None),
    ("Dancing", None),
]


@pytest.mark.parametrize(("reply", "letter"), REPLIES)
def test_replies_to_a_choice(reply: str, letter: str | None) -> None:
    assert parse_choice(reply, ANIMALS) == letter


@pytest.mark.parametrize(
    ("reply", "letter"),
    [
        ("C stops scrolling", "A"),
        ("C washes a pan.", "B"),
        ("E: C briefly stops", "E"),
        ("C briefly stops", None),
        ("The answer is C", "C"),
        ("C", "C"),
        ("C.", "C"),
        ("(C) The man leaves", "C"),
        ("I think C's friend waves", "D"),
    ],
)
def test_a_person_called_c_is_no_letter(reply: str, letter: str | None) -> None:
    assert parse_choice(reply, PEOPLE) == letter


@pytest.mark.parametrize("letter", "ABCDE")
@pytest.mark.parametrize("form", ["{}", "({})", "{}.", "The answer is {}.", "Answer: {}", "\\boxed{{{}}}", "{}) yes"])
def test_every_letter_is_read_alike(letter: str, form: str) -> None:
    assert parse_choice(form.format(letter), ["one thing", "another", "more", "less", "else"]) == letter


@given(st.text(max_size=60), st.integers(2, 6))
def test_any_reply_is_a_letter_that_has_an_option_or_none(reply: str, count: int) -> None:
    assert parse_choice(reply, [f"option number {n}" for n in range(count)]) in (*"ABCDEF"[:count], None)


def test_equal_options_are_told_apart_by_letters_alone() -> None:
    assert parse_choice("same", ["same", "same", "other"]) is None
    assert parse_choice("B. same", ["same", "same", "other"]) == "B"


def test_numbers_and_plurals() -> None:
    assert normalize_answer("Three big foxes") == "3 big fox"
