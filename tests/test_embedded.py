"""The embedded corpora: their probabilities, their entropy, and the regularities that a model can learn."""

import re
from collections import Counter
from functools import cache
from random import Random

import numpy as np
import pytest

from lmstages.corpora.grammar import Grammar, Unseen, documents

NAMES = ["coined", "fables"]
SIZE = {"coined": 20_000, "fables": 2_000}
SCORED = {"coined": 2_000, "fables": 100}
FEW, MANY = r"(?:eats|likes|lives|dines|was|has)", r"(?:eat|like|live|dine|were|have)"


@cache
def source(name: str, unseen: Unseen = "allowed") -> Grammar:
    return Grammar.load(name, unseen)


@cache
def sample(name: str, unseen: Unseen = "allowed") -> list[str]:
    return documents(name, SIZE[name], 1, unseen)


@cache
def spans() -> list[tuple[str, bool]]:
    """The second words of the pairs in 300 fables, and whether each is withheld."""
    pairs = source("fables").pairs
    return [(row[start:end], withheld) for row in sample("fables")[:300] for start, end, withheld in pairs(row)]


@cache
def derived(name: str) -> list[tuple[str, float]]:
    random = Random(2)
    return [source(name).derive(random) for _ in range(SIZE[name])]


def words_of(rows: list[str]) -> Counter[str]:
    return Counter(re.findall(r"\w+", " ".join(rows)))


def standard_errors(values: np.ndarray, expected: float) -> float:
    return abs(values.mean() - expected) / (values.std() / np.sqrt(len(values)))


@pytest.mark.parametrize("name", NAMES)
def test_continuations_sum_to_one(name: str) -> None:
    random = Random(4)
    for document in sample(name)[:25]:
        following = source(name).next_log_probs(document[: random.randint(0, len(document))])
        assert sum(np.exp(list(following.values()))) == pytest.approx(1)


@pytest.mark.parametrize("name", NAMES)
def test_score_is_next_log_probs_of_prefixes_of_embedded_text(name: str) -> None:
    document, random = sample(name)[7], Random(5)
    scores = source(name).score(document)
    for end in [random.randint(0, len(document)) for _ in range(12)]:
        following = source(name).next_log_probs(document[:end])
        assert following[document[end : end + 1]] == pytest.approx(scores[end], abs=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_every_document_has_one_derivation(name: str) -> None:
    """So the entropy of the choices is the entropy of the text."""
    for document, log_probability in derived(name)[: SCORED[name]]:
        assert source(name).score(document).sum() == pytest.approx(log_probability, abs=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_mean_code_length_meets_the_entropy(name: str) -> None:
    lengths = np.array([-log_probability for _, log_probability in derived(name)])
    assert standard_errors(lengths, source(name).entropy()) < 4


@pytest.mark.parametrize("name", NAMES)
def test_mean_length_meets_the_expected_one(name: str) -> None:
    lengths = np.array([len(document) for document, _ in derived(name)])
    assert standard_errors(lengths, source(name).expected_length()) < 4


def test_withheld_pairs_take_entropy_away() -> None:
    lengths = np.array([-source("fables", "withheld").score(row).sum() for row in sample("fables", "withheld")[:150]])
    assert standard_errors(lengths, source("fables", "withheld").entropy()) < 4
    assert source("fables", "withheld").entropy() < source("fables").entropy() - 0.3


@pytest.mark.parametrize("name", NAMES)
def test_same_arguments_same_documents(name: str) -> None:
    assert documents(name, 5, 1) == sample(name)[:5]
    assert documents(name, 5, 2) != sample(name)[:5]


@pytest.mark.parametrize("name", NAMES)
def test_a_document_is_one_line_of_ascii(name: str) -> None:
    assert all(row.isascii() and row.isprintable() and row == row.strip() for row in sample(name))
    assert "  " not in "".join(sample(name))


def test_coined_names_are_short_lower_case_and_varied() -> None:
    assert all(re.fullmatch("[a-z]{4,16}", row) for row in sample("coined"))
    assert len(set(sample("coined"))) > 0.8 * len(sample("coined"))


def test_a_foreign_letter_is_refused() -> None:
    assert source("coined").score("telisqa").sum() == -np.inf
    assert np.isfinite(source("coined").score("telissa")).all()


def test_another_name_for_the_hero_is_refused() -> None:
    for row in sample("fables")[:20]:
        hero = re.match(r"\w+", row)[0]
        changed = row[: row.rindex(hero)] + hero[0] + "x" + row[row.rindex(hero) + 2 :]
        assert source("fables").score(changed).sum() == -np.inf


def test_withheld_pairs_never_come_where_they_are_withheld() -> None:
    pairs = [span for row in sample("fables", "withheld")[:150] for span in source("fables").pairs(row)]
    assert len(pairs) == 300 and not any(withheld for *_, withheld in pairs)


def test_withheld_pairs_come_at_their_rate_where_they_are_allowed() -> None:
    rate = np.mean([withheld for _, withheld in spans()])
    assert len(spans()) == 600 and abs(rate - 1 / 6) < 4 * np.sqrt(5 / 36 / 600)


def test_pairs_point_at_the_food_and_the_home() -> None:
    for row in sample("fables")[:20]:
        first, second = (row[start:end] for start, end, _ in source("fables").pairs(row))
        assert re.search(rf"(eats?|on) {first}\b.*the {second}\b|the {first}\b.*(eats?|on) {second}\b", row)


def test_text_without_withheld_pairs_is_possible_where_they_are_allowed() -> None:
    for row in sample("fables", "withheld")[:20]:
        assert np.isfinite(source("fables").score(row)).all()


def test_every_word_of_a_pair_occurs_in_train_with_other_partners() -> None:
    counts = words_of(sample("fables", "withheld"))
    seen = {word for word, _ in spans()}
    assert len(seen) > 70 and all(counts[word] > 20 for word in seen)


def test_quotation_marks_close() -> None:
    assert all(row.count('"') % 2 == 0 for row in sample("fables"))
    assert all(re.fullmatch(r'[^"]*("[A-Za-z][^"]*[,.!?]"[^"]*)*', row) for row in sample("fables"))


def test_verbs_agree_with_their_animals() -> None:
    for row in sample("fables"):
        animal = re.search(r"[Tt]he (\w+) (?:likes? to eat|eats?|\w+ and dines?) ", row)[1]
        wrong = MANY if re.search(rf"a \w+ {animal}\b", row) and not animal.endswith("s") else FEW
        assert not re.search(rf"[Tt]he {animal} {wrong} ", row)


def test_the_hero_keeps_gender_and_name() -> None:
    for row in (row for row in sample("fables") if "Along came" not in row):
        hers, his = re.search(r"\b([Ss]he|[Hh]er)\b", row), re.search(r"\b([Hh]e|[Hh]is)\b", row)
        assert bool(hers) != bool(his)


def test_what_was_taken_along_comes_back() -> None:
    back = r"(?:found the|shared the|gave them the|gave \w+ the) (\w+ \w+) (?:in the|with the|again)"
    things = [(row, thing) for row in sample("fables") for thing in re.findall(back, row)]
    assert len(things) > 200 and all(row.count(thing) > 1 for row, thing in things)


def test_counting_goes_on_by_one() -> None:
    numbers = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    rows = [row for row in sample("fables") if "one, two" in row.lower()]
    for row in rows:
        counted = re.search(r"[Oo]ne(?:, (?:two|three|four|five|six|seven|eight)\b)+", row)
        change = r"only (\w+) left|so (\w+) were left|that made (\w+)\.|Now \w+ had (\w+) "
        after = next(filter(None, re.search(change, row).groups()))
        assert counted[0].lower().split(", ") == numbers[: counted[0].count(",") + 1]
        assert abs(numbers.index(after) - counted[0].count(",")) == 1
    assert len(rows) > 300
