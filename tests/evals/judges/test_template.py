"""Prompts of judges: their files, the places in them, and the scores of replies of every kind."""

from pathlib import Path

import pytest

from dynfocus.errors import ConfigError, DataError
from dynfocus.evals.judges.template import FOLDER, Template, read_template

OPEN = read_template(FOLDER / "open_answer.txt")
FIELDS = {
    **{"question": "What is {red}?", "truth": "$5 & up", "answer": "the $answer is ${truth} {x}"},
    **{"pair_question": "q1", "pair_answer": "a1", "scoring_points": "- one"},
}


@pytest.mark.parametrize(
    ("name", "scores"),
    [
        ("open_answer", {"correct": None, "score": (0, 5)}),
        ("vcg_correctness", {"correctness": (0, 5)}),
        ("vcg_detail", {"detail": (0, 5)}),
        ("vcg_context", {"context": (0, 5)}),
        ("vcg_temporal", {"temporal": (0, 5)}),
        ("vcg_consistency", {"consistency": (0, 5)}),
        ("vcg_consistency_upstream", {"consistency": (0, 5)}),
        ("mlvu_summary", {"completeness": (1, 5), "reliability": (1, 5)}),
        ("mlvu_sub_scene", {"accuracy": (1, 5), "relevance": (1, 5)}),
    ],
)
def test_every_template_shows_a_reply_that_it_accepts(name: str, scores: dict[str, object]) -> None:
    template = read_template(FOLDER / f"{name}.txt")
    assert template.scores == scores
    assert set(template.read(template.text.splitlines()[-1])) == set(scores)
    prompt = template.fill(FIELDS)
    assert FIELDS["answer"] in prompt, "an answer is put in as it is, whatever signs it holds"
    assert "$scoring_points" not in prompt


def test_every_template_is_tested() -> None:
    assert len(list(FOLDER.glob("*.txt"))) == 9


@pytest.mark.parametrize(
    "reply",
    [
        '{"correct": "yes", "score": 4}',
        'Sure! ```json\n{"correct": "Yes.", "score": 4}\n``` I hope this helps {x}',
        "{'correct': 'yes', 'score': 4}",
        '{"score": "4", "correct": true, "why": "he said \\"{no}\\" and }"}',
        '<think>{"correct": "no", "score": 0}</think>\n{"correct": "yes", "score": 4.0}',
        '{"correct": "YES", "score": 4, "more": {"a": {"b": 1}}}',
    ],
)
def test_a_reply_is_read_from_its_first_object(reply: str) -> None:
    assert OPEN.read(reply) == {"correct": 1.0, "score": 4.0}


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ("", "no JSON object"),
        ("yes, 4", "no JSON object"),
        ('{"correct": "yes", "sco', "no whole JSON object"),
        ('{"correct": "yes"}', "score"),
        ('{"correct": "yes", "score": 6}', "no number from 0 to 5"),
        ('{"correct": "yes", "score": -1}', "no number from 0 to 5"),
        ('{"correct": "yes", "score": NaN}', "no number from 0 to 5"),
        ('{"correct": "yes", "score": true}', "no number from 0 to 5"),
        ('{"correct": "yes", "score": null}', "no number from 0 to 5"),
        ('{"correct": "yes", "score": [4]}', "no number from 0 to 5"),
        ('{"correct": "yes", "score": 1' + "0" * 400 + "}", "no number from 0 to 5"),
        ('{"correct": "maybe", "score": 4}', "neither yes nor no"),
        ('{"correct": 1, "score": 4}', "neither yes nor no"),
        ('{"correct": "yes or no", "score": 4}', "neither yes nor no"),
        ('{broken} {"correct": "yes", "score": 4}', "no JSON"),
        ('{"a"}', "no JSON"),
        ("{" * 100_000, "no whole JSON object"),
        ("{" + "[" * 50_000 + "}", "no JSON"),
        ("{{}: 1}", "no JSON"),
    ],
)
def test_what_cannot_be_read_is_never_a_score(reply: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        OPEN.read(reply)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("$answer", "first line"),
        ("scores: good\n$answer", "the score 'good'"),
        ("scores: good maybe\n$answer", "the score 'good maybe'"),
        ("scores: good 1-x\n$answer", "could not convert"),
        ("scores: good 0-5\nIs $truth right?", r"no \$answer"),
        ("scores: good 0-5\n$answer\n\ncosts $ 5", r"line 4; \$\$ writes one"),
    ],
)
def test_a_file_that_is_no_template_is_refused(text: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text(text)
    with pytest.raises(ConfigError, match=reason):
        read_template(tmp_path / "mine.txt")


def test_an_absent_file_and_an_unknown_place_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent.txt .*No such file"):
        read_template(tmp_path / "absent.txt")
    with pytest.raises(DataError, match=r"asks for \$subtitles.* among answer, pair_answer"):
        Template("mine", {"good": (0, 5)}, "$answer $subtitles").fill(FIELDS)
