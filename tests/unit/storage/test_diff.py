"""Stored and wanted chunks are matched as multisets: what can be kept is kept, wherever it stands now."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from evergreen.storage.documents import Diff, StoredChunk, diff

hashes = st.lists(st.sampled_from([b"a", b"b", b"c", b"d"]), max_size=12)


@st.composite
def stored_chunks(draw):
    found = draw(hashes)
    numbers = draw(st.permutations(range(len(found))))
    return [StoredChunk(100 + i, number, hash_) for i, (number, hash_) in enumerate(zip(numbers, found, strict=True))]


def applied(stored, wanted, change: Diff):
    """The chunks by number after the change."""
    by_id = {chunk.id: chunk.hash for chunk in stored}
    assert len({number for _, number in change.keep}) == len(change.keep)
    result = {number: by_id.pop(chunk) for chunk, number in change.keep}
    for chunk in change.drop:
        del by_id[chunk]
    assert not by_id, "every stored chunk is kept or dropped, once"
    for number in change.add:
        assert number not in result
        result[number] = wanted[number]
    return result


@given(stored_chunks(), hashes)
def test_the_result_is_what_was_wanted(stored, wanted):
    assert applied(stored, wanted, diff(stored, wanted)) == dict(enumerate(wanted))


@given(stored_chunks(), hashes)
def test_only_what_is_not_there_is_added(stored, wanted):
    """The added ones go to the model: as a multiset they are the wanted ones without the stored ones."""
    added = Counter(wanted[number] for number in diff(stored, wanted).add)
    assert added == Counter(wanted) - Counter(chunk.hash for chunk in stored)


@given(stored_chunks(), hashes)
def test_a_chunk_that_is_in_its_place_stays_there(stored, wanted):
    kept = dict(diff(stored, wanted).keep)
    for chunk in stored:
        if chunk.chunk_no < len(wanted) and wanted[chunk.chunk_no] == chunk.hash:
            assert kept[chunk.id] == chunk.chunk_no


@given(hashes)
def test_an_unchanged_document_changes_nothing(wanted):
    stored = [StoredChunk(i, i, hash_) for i, hash_ in enumerate(wanted)]
    assert diff(stored, wanted) == Diff(tuple((i, i) for i in range(len(wanted))), (), ())


def test_two_stored_chunks_of_one_number_are_told_apart():
    """Should a table ever hold a chunk twice, both are accounted for: one kept, one dropped."""
    stored = [StoredChunk(1, 0, b"a"), StoredChunk(2, 0, b"a")]
    change = diff(stored, [b"a"])
    assert len(change.keep) == 1
    assert len(change.drop) == 1
    assert not change.add


def test_an_insertion_at_the_top_moves_the_rest_and_adds_one():
    stored = [StoredChunk(i, i, bytes([i])) for i in range(3)]
    change = diff(stored, [b"new", bytes([0]), bytes([1]), bytes([2])])
    assert change == Diff(((0, 1), (1, 2), (2, 3)), (), (0,))
