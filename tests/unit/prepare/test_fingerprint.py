"""No two inputs give one fingerprint, wherever the borders between the fields lie."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evergreen.prepare import fingerprint

any_text = st.text(st.characters(), max_size=12)  # lone surrogates too
few = st.text(st.sampled_from('a"[]{}, \0\\'), max_size=6)


@given(st.tuples(few, few, few), st.tuples(few, few, few))
def test_moving_a_border_between_fields_changes_the_fingerprint(one, other):
    def of(fields):
        return fingerprint.document(fields[0], fields[1], {"chunker": "none"})(fields[2])

    assert (of(one) == of(other)) == (one == other)


@given(any_text, any_text, st.integers(0, 12))
def test_one_text_cut_elsewhere_has_another_hash(first, second, cut):
    joined = first + second
    other = (joined[:cut], joined[cut:])
    same = fingerprint.chunk(first)(second) == fingerprint.chunk(other[0])(other[1])
    assert same == ((first, second) == other)


@given(any_text, any_text)
def test_a_document_is_never_a_chunk(identity, text):
    assert fingerprint.document(identity, "", {})(text) != fingerprint.chunk(identity)(text)


def test_a_hasher_remembers_no_text():
    of = fingerprint.chunk("m")
    assert of("one") != of("two")
    assert of("one") == fingerprint.chunk("m")("one")


def test_every_field_counts():
    base = ("model", "preparation", {"chunker": "text", "size": 800, "overlap": 0}, "text")
    changed = [
        ("model 2", *base[1:]),
        (base[0], "other", *base[2:]),
        (*base[:2], {"chunker": "text", "size": 801, "overlap": 0}, base[3]),
        (*base[:3], "text "),
    ]
    prints = [fingerprint.document(*fields)(text) for *fields, text in (base, *changed)]
    assert len(set(prints)) == len(prints)
    assert all(len(found) == 32 for found in prints)


def test_the_order_of_a_chunkers_options_does_not_count():
    one = fingerprint.document("m", "p", {"a": 1, "b": 2})("t")
    assert one == fingerprint.document("m", "p", {"b": 2, "a": 1})("t")


@pytest.mark.parametrize(("one", "other"), [("\u00e9", "e\u0301"), ("a", "a "), ("\ud800", "\ud801"), ("", " ")])
def test_texts_that_look_alike_differ(one, other):
    assert fingerprint.chunk("m")(one) != fingerprint.chunk("m")(other)


def test_hashes_stay_what_they_were():
    """They are stored: a change here would call every embedding of every user stale."""
    assert fingerprint.chunk("m")("text").hex() == ("353d5f5fd84a00de7b52899b0e0ec3814faf8518fa20c081c8a3b2a7851f3c0c")
    assert fingerprint.document("m", "p", {"chunker": "none"})("text").hex() == (
        "9aef871f3898f2c41b02e2c95cb2a974e2effc6c656dc4fc49e8ced229c35727"
    )
