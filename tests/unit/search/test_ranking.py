"""Weights of words, scores of chunks, and their fusion with vectors."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evergreen.search.ranking import Counter, Match, Vocabulary, fuse, similarity, vocabulary

CHUNKS, COMMON = 10_000, 200
SHARES = st.floats(0, 1)


def known(**counts):
    return vocabulary(counts, CHUNKS, COMMON)


def test_rare_words_weigh_more_and_unknown_ones_nothing():
    weights = known(quokka=1, video=150, package=COMMON + 1, absent=0).weights
    assert sorted(weights, key=weights.__getitem__) == ["package", "video", "quokka"]
    assert all(weight > 0 for weight in weights.values())


def test_coverage_is_the_share_of_the_weight():
    words = known(quokka=1, video=150, absent=0)
    assert words.match({"quokka": 1, "video": 2}, 500).coverage == pytest.approx(1)
    assert words.match({"quokka": 1}, 500).coverage > 0.6
    assert words.match({"video": 9}, 500).coverage < 0.4
    assert words.match({}, 500) == Match(0, 0)
    assert known().match({"quokka": 1}, 500) == Match(0, 0)


def test_more_of_a_word_and_a_shorter_text_score_higher():
    words = known(quokka=1, video=150)
    assert words.match({"quokka": 2}, 500).score > words.match({"quokka": 1}, 500).score
    assert words.match({"quokka": 1}, 100).score > words.match({"quokka": 1}, 900).score


@given(st.dictionaries(st.sampled_from(["a", "b", "c"]), st.integers(0, 10**6)), st.integers(0, 10**6))
def test_scores_are_shares(counts, length):
    match = known(a=1, b=50, c=COMMON + 1).match(counts, length)
    assert 0 <= match.score <= match.coverage <= 1 + 1e-9


@given(st.lists(st.tuples(SHARES, SHARES, SHARES), min_size=1, max_size=20))
def test_fused_scores_are_shares_and_no_better_chunk_comes_later(given_chunks):
    chunks = [(vector, Match(coverage, score * coverage)) for vector, coverage, score in given_chunks]
    fused = fuse([vector for vector, _ in chunks], [match for _, match in chunks])
    assert all(0 <= score <= 1 for score in fused)
    for (vector, match), score in zip(chunks, fused, strict=True):
        for (other, its), its_score in zip(chunks, fused, strict=True):
            if vector >= other and match.coverage >= its.coverage and match.score >= its.score:
                assert score >= its_score - 1e-9


def test_a_chunk_with_all_words_comes_before_the_nearest_with_few():
    """Whatever the vectors say."""
    scores = fuse([0.0] + [1.0] * 50, [Match(1, 0.7)] + [Match(0.3, 0.25)] * 50)
    assert scores[0] > max(scores[1:])


def test_vectors_decide_where_words_say_little():
    near, worded = fuse([0.9, 0.2], [Match(0.1, 0.05), Match(0.4, 0.3)])
    assert near > worded


def test_without_vectors_words_decide_alone():
    scores = fuse([0.0, 0.0], [Match(0.5, 0.4), Match(1, 0.6)])
    assert scores[1] == pytest.approx(1)
    assert scores[0] < 0.5


@pytest.mark.parametrize(
    ("distance", "score", "best", "expected"),
    [("cosine", 1, 1, 1), ("cosine", -0.5, 1, 0), ("l2", 0, 0, 1), ("ip", 50, 100, 0.5), ("ip", 0.5, 0.5, 0.5)],
)
def test_scores_of_each_distance(distance, score, best, expected):
    assert similarity(distance, score, best) == pytest.approx(expected)


@pytest.mark.parametrize("score", [None, float("nan")])
def test_no_direction_is_near_nothing(score):
    assert similarity("cosine", score, 1) == 0


def test_words_are_counted_in_their_forms():
    counts = Counter(["set", "happi", "c++", "/usr"]).counts("Settings, a set; Happy happiness. reset C++ /usr/bin")
    assert counts == {"set": 2, "happi": 2, "c++": 1, "/usr": 1}


def test_no_words_no_match():
    assert Vocabulary({}).match({}, 10) == Match(0, 0)
