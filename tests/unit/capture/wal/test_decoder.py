"""The parser of pgoutput's messages: what it reads, and that garbage is one clear error and never more."""

import struct
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evergreen.capture.wal.decoder import (
    UNCHANGED,
    Begin,
    Change,
    Commit,
    Other,
    ProtocolError,
    Relation,
    Truncate,
    parse,
)

names = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)
values = st.lists(
    st.one_of(st.none(), st.just(UNCHANGED), st.text(st.characters(exclude_categories=["Cs"]))), max_size=5
)
oids = st.integers(0, 2**32 - 1)
lsns = st.integers(0, 2**64 - 1)


def _string(text):
    return text.encode() + b"\0"


def _row(kind, row):
    fields = b"".join(_field(value) for value in row)
    return kind + struct.pack("!H", len(row)) + fields


def _field(value):
    if value is None or value is UNCHANGED:
        return b"n" if value is None else b"u"
    return b"t" + struct.pack("!i", len(value.encode())) + value.encode()


def _relation(oid, columns):
    parts = b"".join(b"\1" + _string(name) + struct.pack("!Ii", 23, -1) for name in columns)
    return (
        b"R"
        + struct.pack("!I", oid)
        + _string("public")
        + _string("docs")
        + b"d"
        + struct.pack("!H", len(columns))
        + parts
    )


def _change(kind, oid, old, new):
    return kind + struct.pack("!I", oid) + (old or b"") + (new or b"")


messages = st.one_of(
    st.builds(
        lambda lsn, at, xid: (b"B" + struct.pack("!QqI", lsn, at, xid), Begin(lsn, at, xid)),
        lsns, st.integers(-(2**63), 2**63 - 1), oids,
    ),
    st.builds(lambda a, b: (b"C\0" + struct.pack("!QQq", a, b, 5), Commit(a, b)), lsns, lsns),
    st.builds(lambda lsn, name: (b"O" + struct.pack("!Q", lsn) + _string(name), Other("origin")), lsns, names),
    st.builds(lambda oid, name: (b"Y" + struct.pack("!I", oid) + _string(name) * 2, Other("type")), oids, names),
    st.builds(
        lambda oid, c: (_relation(oid, c), Relation(oid, tuple(c), (23,) * len(c))), oids, st.lists(names, max_size=5)
    ),
    st.builds(lambda oid, n: (_change(b"I", oid, None, _row(b"N", n)), Change(oid, None, tuple(n))), oids, values),
    st.builds(
        lambda oid, o, n, whole: (
            _change(b"U", oid, _row(b"O" if whole else b"K", o), _row(b"N", n)),
            Change(oid, tuple(o), tuple(n), whole=whole),
        ),
        oids, values, values, st.booleans(),
    ),
    st.builds(lambda oid, n: (_change(b"U", oid, None, _row(b"N", n)), Change(oid, None, tuple(n))), oids, values),
    st.builds(
        lambda oid, o, whole: (
            _change(b"D", oid, _row(b"O" if whole else b"K", o), None), Change(oid, tuple(o), None, whole=whole)
        ),
        oids, values, st.booleans(),
    ),
    st.builds(
        lambda all_of: (
            b"T" + struct.pack(f"!IB{len(all_of)}I", len(all_of), 1, *all_of), Truncate(tuple(all_of))
        ),
        st.lists(oids, max_size=5),
    ),
)  # fmt: skip


@given(messages)
def test_what_is_written_is_read(message):
    data, expected = message
    assert parse(data) == expected


@given(messages, st.data())
def test_a_message_that_is_cut_off_is_refused(message, data):
    whole, _ = message
    end = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(ProtocolError):
        parse(whole[:end])


@given(messages, st.binary(min_size=1, max_size=5))
def test_a_message_with_more_than_it_says_is_refused(message, more):
    with pytest.raises(ProtocolError):
        parse(message[0] + more)


@given(
    st.one_of(
        st.binary(max_size=200),
        st.builds(
            bytes.__add__,
            st.sampled_from([b"B", b"C", b"R", b"I", b"U", b"D", b"T", b"O", b"Y"]),
            st.binary(max_size=200),
        ),
    )
)
def test_garbage_is_read_or_refused(data):
    with suppress(ProtocolError):
        parse(data)


@given(messages, st.data())
def test_a_byte_that_was_flipped_is_read_or_refused(message, data):
    garbled = bytearray(message[0])
    garbled[data.draw(st.integers(0, len(garbled) - 1))] ^= data.draw(st.integers(1, 255))
    with suppress(ProtocolError):
        parse(bytes(garbled))


def test_a_count_of_tables_that_cannot_be_is_refused_at_once():
    with pytest.raises(ProtocolError, match="4294967295 tables"):
        parse(b"T" + struct.pack("!IB", 2**32 - 1, 0))
