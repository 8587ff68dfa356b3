"""A batch from the file to its results, by each format."""

import io

import numpy as np
import orjson
import pytest

from evergreen.core.embedding import Request
from evergreen.core.errors import InvalidVectorError, RejectedError, RetryableError
from evergreen.embedding.batches.protocol import BatchState, NotFoundError
from tests.fixtures.providers.batches.remote import Batch
from tests.fixtures.providers.direct import SERVED
from tests.fixtures.providers.loopback import vector
from tests.unit.embedding.batches.conftest import INTENT, hashed

TEXTS = [f"text {n}: “é” \u2028 \\n" for n in range(20)]


def found(side, batch):
    """Vectors, and errors, by text."""
    by_id = {hashed(text): text for text in TEXTS}
    results = list(side.results(batch))
    assert len({result.custom_id for result in results}) == len(results)
    vectors = {by_id[r.custom_id]: r.vector for r in results if r.error is None}
    errors = {by_id[r.custom_id]: r.error for r in results if r.error is not None}
    return vectors, errors


def until_error(results, kind, match=None):
    """The results that come before an error."""
    came = []
    with pytest.raises(kind, match=match):
        came.extend(iter(lambda: next(results), None))
    return came


def assert_right(side, vectors, texts):
    assert set(vectors) == set(texts)
    for text, given in vectors.items():
        assert given.dtype == np.float32
        np.testing.assert_allclose(given, vector(text, side.server.dimensions), rtol=1e-6)


def test_a_batch_goes_from_a_file_to_vectors(side):
    batch = side.submitted(TEXTS)
    seen = [batch.state]
    while not batch.state.is_final:
        batch = side.get(batch)
        seen.append(batch.state)
    assert seen == [BatchState.VALIDATING, BatchState.RUNNING, BatchState.DONE]
    assert (batch.succeeded, batch.failed, batch.error) == (20, 0, None)
    vectors, errors = found(side, batch)
    assert_right(side, vectors, TEXTS)
    assert not errors
    assert set(side.server.billed.values()) == {1}
    assert sum(r.tokens for r in side.results(batch)) == side.server.tokens


@pytest.mark.parametrize("encoding", ["base64", "float"])
def test_the_form_of_vectors_is_that_of_requests(side, encoding):
    side.model_options["encoding_format"] = encoding
    assert_right(side, found(side, side.ended(TEXTS))[0], TEXTS)


def test_outputs_come_in_any_order(side):
    side.server.fault.backwards = True
    assert_right(side, found(side, side.ended(TEXTS))[0], TEXTS)


def test_single_texts_fail(side):
    side.server.fault.status = {TEXTS[3]: 400, TEXTS[5]: 500, TEXTS[7]: 429}.get
    batch = side.ended(TEXTS)
    assert (batch.state, batch.succeeded, batch.failed) == (BatchState.DONE, 17, 3)
    vectors, errors = found(side, batch)
    assert_right(side, vectors, set(TEXTS) - set(errors))
    assert {text: type(error) for text, error in errors.items()} == {
        TEXTS[3]: RejectedError,
        TEXTS[5]: RetryableError,
        TEXTS[7]: RetryableError,
    }


def test_lines_fail_in_a_batch_that_says_none_did(side):
    side.server.fault.hidden = {TEXTS[3]: 400, TEXTS[5]: 503}.get
    batch = side.ended(TEXTS)
    assert (batch.state, batch.succeeded, batch.failed) == (BatchState.DONE, 20, 0)
    vectors, errors = found(side, batch)
    assert_right(side, vectors, set(TEXTS) - {TEXTS[3], TEXTS[5]})
    assert {type(error) for error in errors.values()} == {RejectedError, RetryableError}


@pytest.mark.parametrize(
    "broken",
    [
        lambda v: v[:-1],
        lambda v: [*v, 0.5],
        lambda v: [0.0] * len(v),
        lambda v: [float("nan"), *v[1:]],
        lambda v: [1e30, *v[1:]],
        lambda _: [],
        lambda _: None,
        lambda _: "not base64!",
        lambda v: [v],
        lambda v: {"values": v},
    ],
)
def test_a_vector_that_cannot_be_stored_is_the_error_of_its_text(side, broken):
    side.model_options["encoding_format"] = "float"
    side.server.fault.item = lambda text, right: broken(right) if text == TEXTS[4] else right
    batch = side.ended(TEXTS)
    vectors, errors = found(side, batch)
    assert_right(side, vectors, set(TEXTS) - {TEXTS[4]})
    assert isinstance(errors[TEXTS[4]], InvalidVectorError)


def test_a_batch_expires_with_part_of_its_results(side):
    side.server.fault.outcome = "expired"
    batch = side.ended(TEXTS)
    assert batch.state is (BatchState.DONE if side.api.name == "voyage" else BatchState.EXPIRED)
    vectors, errors = found(side, batch)
    if side.api.name == "gemini":  # which delivers nothing then
        assert not vectors
        assert not batch.outputs
        return
    assert_right(side, vectors, TEXTS[:10])
    assert set(errors) == set(TEXTS[10:])
    assert {type(error) for error in errors.values()} == {RetryableError}
    assert sum(side.server.billed.values()) == 10


def test_a_batch_is_refused_with_the_numbers_of_lines(side, monkeypatch):
    monkeypatch.setenv("EVERGREEN_SECRET_key", "sk-0123456789")
    side.secret, side.server.key = "key", "sk-0123456789"
    side.server.fault.invalid = [(3, "invalid", "no such model"), (7, "invalid", "sk-0123456789 may not")]
    batch = side.ended(TEXTS)
    assert batch.state is BatchState.FAILED
    assert not batch.limited
    assert batch.error is not None
    assert "line 3: no such model; line 7: *** may not" in batch.error
    assert list(side.results(batch)) == []


def test_a_long_list_of_errors_is_cut(side):
    side.server.fault.invalid = [(n, "invalid", "x" * 5_000) for n in range(1, 1_000)]
    batch = side.ended(TEXTS)
    assert batch.error is not None
    assert len(batch.error) <= 1_000


def test_a_batch_is_cancelled_with_part_of_its_results(side):
    batch = side.submitted(TEXTS)
    side.cancel(batch)
    assert side.get(batch).state in {BatchState.RUNNING, BatchState.CANCELLED}
    batch = side.get(batch)
    assert batch.state is BatchState.CANCELLED
    vectors, _ = found(side, batch)
    assert_right(side, vectors, [] if side.api.name == "gemini" else TEXTS[:10])


def test_cancelling_what_is_over_or_gone_is_no_error(side):
    batch = side.ended(TEXTS)
    side.cancel(batch)
    assert side.get(batch).state is BatchState.DONE
    side.server.batches.clear()
    side.cancel(batch)


def test_a_batch_that_is_gone(side):
    batch = side.submitted(TEXTS)
    side.server.batches.clear()
    with pytest.raises(NotFoundError, match="404") as error:
        side.get(batch)
    assert error.value.log_message == "answered 404"


def test_an_output_that_is_gone(side):
    batch = side.ended(TEXTS)
    side.server.fault.gone = True
    with pytest.raises(NotFoundError, match="404"):
        list(side.results(batch))


def test_the_other_output_of_two_is_read_where_one_is_gone(side):
    if side.api.name == "gemini":
        return  # it has one
    side.server.fault.status = lambda text: 400 if text in TEXTS[:5] else None
    batch = side.ended(TEXTS)
    side.server.files.pop(batch.outputs[0])
    came = until_error(side.results(batch), NotFoundError)
    assert {result.custom_id for result in came} == {hashed(text) for text in TEXTS[:5]}


@pytest.mark.parametrize("silently", [False, True])
def test_a_download_that_breaks_is_an_error_after_the_lines_that_came(side, silently):
    batch = side.ended(TEXTS)
    side.server.fault.truncate, side.server.fault.silently = 0.52, silently
    came = until_error(side.results(batch), RetryableError)
    assert 8 <= len(came) <= 11
    assert all(result.vector is not None for result in came)
    side.server.fault.truncate = None
    assert_right(side, found(side, batch)[0], TEXTS)


def test_a_download_that_ends_between_two_lines_is_told_by_the_counts(side):
    batch = side.ended(TEXTS)
    output = side.server.files[batch.outputs[0]]
    first = list(output.lines())[:12]
    output.made = lambda: iter(first)
    came = until_error(side.results(batch), RetryableError, "12 lines came of a batch with 20 results")
    assert len(came) == 12


def test_lines_that_cannot_be_read_or_are_of_no_text_do_not_end_the_results(side):
    extra = [b"not JSON\n", b"\n", b"[]\n", b'{"custom_id": 7, "key": 7}\n', b'{"custom_id": "x", "key": "x"}\n']
    side.server.fault.extra = extra
    results = list(side.results(side.ended(TEXTS)))
    assert len(results) == len(TEXTS) + len(extra) - 1
    assert [result.custom_id for result in results[-4:]] == [None, None, None, "x"]
    assert all(result.error is not None for result in results[-4:])


def test_files_and_batches_are_found_in_lists_of_many_pages(side):
    side.server.fault.page = 3
    file_id = side.upload(TEXTS)
    batch = side.create(file_id)
    for n in range(10):
        side.create(side.upload(["another"], f"other-{n}"), f"other-{n}")
    assert side.find_file() == file_id
    assert side.find_file("never-uploaded") is None
    adopted = side.find()
    assert adopted is not None
    assert adopted.id == batch.id
    assert side.find("never-created") is None


def test_nothing_is_found_in_empty_lists(side):
    assert side.find_file() is None
    assert side.find() is None


@pytest.mark.parametrize("kind", ["upload", "create"])
def test_a_lost_answer_leaves_what_can_be_adopted(side, kind):
    side.server.fault.lose[kind] = 1
    if kind == "upload":
        with pytest.raises(RetryableError, match="broke"):
            side.upload(TEXTS)
        file_id = side.find_file()
        assert file_id is not None
    else:
        file_id = side.upload(TEXTS)
        with pytest.raises(RetryableError, match="broke"):
            side.create(file_id)
    batch = side.find() if kind == "create" else side.create(file_id)
    assert batch is not None
    side.server.finish()
    assert_right(side, found(side, side.get(batch))[0], TEXTS)
    assert len(side.server.batches) == 1
    assert len([file for file in side.server.files.values() if file.made is None]) == 1


def test_files_are_deleted(side):
    batch = side.ended(TEXTS)
    uploaded = side.find_file()
    assert uploaded is not None
    side.delete(uploaded, uploaded, *batch.outputs)
    assert not side.server.files
    assert side.find_file() is None


@pytest.mark.parametrize("options", [{}, {"encoding_format": "float"}, {"send_dimensions": True}])
def test_the_parameters_are_those_of_requests(side, options):
    """The same text has the same vector either way."""
    side.model_options = options
    payload = SERVED[side.server.provider].payload(side.model, ["text"], Request(["text"], "document"))
    batch = Batch("b", INTENT, "f", "models/m", {})
    if side.api.name != "gemini":
        batch = side.server.made(side.api.request(side.model, "f", INTENT))
    line = side.server.understand(batch, orjson.loads(side.lines(["text"])))
    assert (line.text, line.model) == ("text", payload["model"])
    if side.api.name != "gemini":  # which knows numbers only
        assert line.base64 == (payload.get("encoding_format") == "base64")
    if side.api.name != "mistral":  # which refuses the option's field in requests
        assert line.dimensions == payload.get("dimensions", payload.get("output_dimension"))
    if side.api.name == "voyage":
        given = batch.body["request_params"]
        assert (given["input_type"], given["truncation"]) == (payload["input_type"], payload["truncation"])


def test_a_name_is_that_of_a_file(side):
    file_id = side.api.upload(side.endpoint, side.model, "a-1", io.BytesIO(side.lines(TEXTS)), side.canceller)
    assert side.server.files[file_id].name.removesuffix(".jsonl") == "a-1"
    assert side.server.files[file_id].content == side.lines(TEXTS)
    assert INTENT not in {file.name for file in side.server.files.values()}
