"""Read what a model wrote: one normal form of words, the match of an open answer, and the letter of a choice."""

import re
import unicodedata
from collections.abc import Sequence

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
# The special tokens that language models leave around an answer which was decoded with them.
TOKENS = re.compile(r"</?s>|<(?:bos|eos|pad|start_of_turn|end_of_turn)>|<\|[^<>|]+\|>", re.I)
ARTICLES = {"a", "an", "the"}
NUMBERS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
PLURALS = {
    **{"men": "man", "women": "woman", "children": "child", "people": "person", "feet": "foot", "teeth": "tooth"},
    **{"mice": "mouse", "geese": "goose", "knives": "knife", "leaves": "leaf", "shelves": "shelf", "loaves": "loaf"},
}
YES_NO = {"yes", "no"}

# What announces a letter, in the languages that people report. A letter behind a negation is none.
ANNOUNCED = re.compile(
    r"(?i:\b(?:answer|option|choice|choose|pick|select|letter|antwort|respuesta|réponse)\b|答案|选)"
    r"(?i:\s+(?:is|are|would|should|must|be|to|ist|es|est|option|choice|letter))*"
    r"\s*[是为:=]?\s*(?:[*_`\"'(\[{]*([A-Z])(?![A-Za-z'’])(?!\s+[a-z])|\(([a-z])\)|([b-z])(?=[\s.!]*$))"
)
NEGATED = re.compile(
    r"(?i:\bnot|n't|n’t|\bneither|\bnor|\bexcept|\bunlike|\brule[sd]? out)\s+(?i:option\s+)?\(?[A-Z]\b\)?"
)
BOXED = re.compile(r"\\boxed\s*\{\s*(?:\\text\s*\{)?\s*\(?([A-Za-z])\)?[^{}]*\}")
ALONE = re.compile(r"[\s*_`\"'(\[{]*([A-Za-z])[\s*_`\"')\]}.:,]*")
FIRST = re.compile(r"[\s*_`\"'(\[{]*([A-Z])(?:[*_`\"')\]}]*[.):,\]}\n]|[*_`\"']*\s+-)")
BRACKETED = re.compile(r"\(([A-Z])\)|\[([A-Z])\]|\*\*([A-Z])\*\*")
# A lone capital letter that is no article and no name of a person, as EgoSchema's "C stops".
LONE = re.compile(r"(?<![A-Za-z'’.])([A-Z])(?![A-Za-z'’])(?!\s+[a-z])")


def cut_answer(text: str) -> str:
    """The answer between special tokens: what a model writes behind its end token is none, in Unicode's form NFKC."""
    parts = (part.strip() for part in TOKENS.split(text))
    return unicodedata.normalize("NFKC", next(filter(None, parts), ""))


def normalize_text(text: str) -> str:
    """Write a text in small letters, without special tokens, punctuation, articles and double spaces.

    A word keeps the marks on its letters (vowels of many scripts) and joins at an apostrophe; a number at the commas of
    its thousands. The minus of a number becomes a word.
    """
    plain = re.sub(r"(?<=\w)['’](?=\w)|(?<=\d),(?=\d{3}(?!\d))", "", cut_answer(text).casefold())
    plain = re.sub(r"(?<!\S)[-−](?=\d)", "minus ", plain)
    letters = (sign if sign.isalnum() or unicodedata.category(sign)[0] == "M" else " " for sign in plain)
    words = [word for word in "".join(letters).split() if any(map(str.isalnum, word))]
    return " ".join(word for word in words if word not in ARTICLES) or " ".join(words)


def normalize_answer(text: str) -> str:
    """Normalize as `normalize_text`, with numbers as digits and plurals as singulars."""
    return " ".join(_normalize_word(word) for word in normalize_text(text).split())


def match_answer(answer: str, truth: str) -> bool:
    """Say whether an open answer is the true one: the same normal form, or for yes and no the same first word."""
    words, expected = normalize_answer(answer), normalize_answer(truth)
    return words == expected or (expected in YES_NO and words.split()[:1] == [expected])


def parse_choice(answer: str, options: Sequence[str]) -> str | None:
    """Read the letter of the option that an answer chooses; None where it chooses none.

    In this order: a boxed letter; a letter alone; the last letter that words such as "the answer is" announce; a letter
    at the start, as in "B. the dog"; the text of one option, alone or within the answer; the one letter in brackets;
    the one lone capital letter. Letters that the answer rules out ("not A") or that have no option are passed over.
    """
    text = cut_answer(answer)
    letters = LETTERS[: len(options)]
    boxed = [letter.upper() for letter in BOXED.findall(text)]
    if boxed and boxed[-1] in letters:
        return boxed[-1]
    if (alone := ALONE.fullmatch(text)) and alone[1].upper() in letters:
        return alone[1].upper()
    kept = NEGATED.sub(" ", text)
    announced = [
        letter for letter in ("".join(groups).upper() for groups in ANNOUNCED.findall(kept)) if letter in letters
    ]
    if announced:
        return announced[-1]
    if (first := FIRST.match(kept)) and first[1] in letters:
        return first[1]
    if (named := _named_option(kept, options)) is not None:
        return letters[named]
    for pattern in (BRACKETED, LONE):
        different = {letter for groups in pattern.findall(kept) for letter in groups if letter and letter in letters}
        if len(different) == 1:
            return different.pop()
    return None


def _named_option(text: str, options: Sequence[str]) -> int | None:
    """The one option whose words the text holds; of options within each other the longest."""
    words = f" {normalize_answer(text)} "
    normal = [normalize_answer(option) for option in options]
    named = [n for n, option in enumerate(normal) if option and f" {option} " in words]
    longest = [n for n in named if not any(n != m and f" {normal[n]} " in f" {normal[m]} " for m in named)]
    return longest[0] if len(longest) == 1 else None


def _normalize_word(word: str) -> str:
    if word in NUMBERS:
        return str(NUMBERS.index(word))
    if word in PLURALS:
        return PLURALS[word]
    if word.endswith("ies") and len(word) > 4:
        return f"{word[:-3]}y"
    if word.endswith(("sses", "xes", "ches", "shes", "zes")):
        return word[:-2]
    return word[:-1] if word.endswith("s") and len(word) > 3 and not word.endswith(("ss", "us", "is")) else word
