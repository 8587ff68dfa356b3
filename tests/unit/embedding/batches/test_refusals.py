"""What a refusal of each call means, and that keys go where they must and nowhere else."""

import pytest

from evergreen.core.errors import ConfigurationError, RejectedError, RetryableError
from evergreen.core.pipeline import Endpoint, Model
from evergreen.embedding.batches import registry
from evergreen.embedding.batches.protocol import BatchState
from tests.fixtures.providers.batches import SERVERS
from tests.fixtures.providers.batches.remote import Refusal

KEY = "sk-0123456789abcdef"
TEXTS = ["one", "two"]
KINDS = ("upload", "files", "create", "list", "get", "content", "cancel", "delete")


@pytest.fixture
def make(side):
    """Make a call of a kind to which a batch and its files are there."""
    batch = side.ended(TEXTS)
    file_id = side.find_file()
    calls = {
        "upload": lambda: side.upload(TEXTS, "another"),
        "files": side.find_file,
        "create": lambda: side.create(file_id, "another"),
        "list": side.find,
        "get": lambda: side.get(batch),
        "content": lambda: list(side.results(batch)),
        "cancel": lambda: side.cancel(batch),
        "delete": lambda: side.delete(file_id),
    }
    return lambda kind: calls[kind]()


def refusal(side, kind, status, headers=None, message="no"):
    side.server.fault.refuse[kind] = [Refusal(status, headers or {}, message)]


@pytest.mark.parametrize("kind", KINDS)
def test_too_many_requests(side, make, kind):
    refusal(side, kind, 429)
    with pytest.raises(RetryableError) as error:
        make(kind)
    assert (error.value.pause, error.value.limited, error.value.log_message) == (None, True, "answered 429")
    refusal(side, kind, 429, {"Retry-After": "17"})
    with pytest.raises(RetryableError) as error:
        make(kind)
    assert error.value.pause == 17.0
    make(kind)
    assert side.server.billed.total() <= 2


@pytest.mark.few(2)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("status", "meaning"), [(401, ConfigurationError), (500, RetryableError), (503, RetryableError)]
)
def test_other_refusals(side, make, kind, status, meaning):
    refusal(side, kind, status)
    with pytest.raises(meaning, match=f'endpoint "here": answered {status}'):
        make(kind)
    make(kind)


@pytest.mark.parametrize("kind", ["upload", "create", "list"])
def test_a_request_that_is_not_understood(side, make, kind):
    refusal(side, kind, 400)
    with pytest.raises(RejectedError, match="400"):
        make(kind)


@pytest.mark.parametrize("kind", KINDS)
def test_a_key_goes_along_and_is_in_no_message(side, make, kind, monkeypatch):
    monkeypatch.setenv("EVERGREEN_SECRET_key", KEY)
    side.secret, side.server.key = "key", KEY
    make(kind)
    refusal(side, kind, 500, message=f"{KEY} may not")
    with pytest.raises(RetryableError, match="may not") as error:
        make(kind)
    assert "0123456789" not in str(error.value)
    side.server.key = "another key"
    with pytest.raises(ConfigurationError, match="401") as denied:
        make(kind)
    assert "0123456789" not in str(denied.value)


def test_a_key_is_in_no_error_of_a_line(side, monkeypatch):
    monkeypatch.setenv("EVERGREEN_SECRET_key", KEY)
    side.secret, side.server.key = "key", KEY
    side.server.fault.extra = [
        b'{"custom_id": "x", "key": "x", "response": null, "error": {"code": "other", "message": "%b"}}\n'
        % KEY.encode()
    ]
    *_, last = side.results(side.ended(TEXTS))
    assert last.custom_id == "x"
    assert "***" in str(last.error)
    assert "0123456789" not in str(last.error)


def test_a_pause_until_the_next_look(side):
    batch = side.submitted(TEXTS)
    assert side.get(batch).retry_after is None
    serve = side.server.serve

    def patient(asked):
        reply = serve(asked)
        reply.headers = {**reply.headers, "Retry-After": "45"}
        return reply

    side.server.serve = patient
    assert side.get(batch).retry_after == 45.0


def test_parameters_and_headers_of_the_endpoint_go_with_every_call(side, make):
    seen = []
    serve = side.server.serve

    def watched(asked):
        seen.append(asked)
        return serve(asked)

    side.server.serve = watched
    side.options = {"query": {"tenant": "a b"}, "headers": {"X-Tenant": "a b"}}
    for kind in KINDS:
        make(kind)
    ours = [asked for asked in seen if not asked.path.startswith("/store/")]
    assert len(ours) >= len(KINDS)
    assert all(asked.query["tenant"] == asked.headers["x-tenant"] == "a b" for asked in ours)
    for asked in seen:
        if asked not in ours:
            assert "x-tenant" not in asked.headers
            assert "tenant" not in asked.query


def test_a_batch_that_fails_because_too_much_is_enqueued_would_pass_later():
    with SERVERS["openai"]() as server:
        endpoint = Endpoint("here", server.url, None, {"batch_api": "openai", "project": "proj_1"})
        api = registry.batch_api(endpoint)
        assert api is not None
        server.fault.invalid = [(None, "token_limit_exceeded", "Enqueued token limit reached for m.")]
        from tests.unit.embedding.batches.conftest import Side

        batch = Side(server, api).ended(TEXTS)
        assert batch.state is BatchState.FAILED
        assert batch.limited
        assert batch.error == "Enqueued token limit reached for m."


def test_the_discount_is_the_documented_one_unless_the_endpoint_says_another():
    def of(name, **options):
        return registry.discount(Endpoint("e", "https://x.example.com", None, {"batch_api": name, **options}))

    assert [of(name) for name in ("openai", "gemini", "mistral", "voyage")] == [0.5, 0.5, 0.5, 0.33]
    assert of("openai", batch_discount=0) == 0.0
    assert of("voyage", batch_discount=0.4) == 0.4
    assert registry.discount(Endpoint("e", "https://x.example.com", None, {})) == 0.0


def test_a_model_of_another_provider_has_no_batch_api():
    endpoint = Endpoint("e", "https://x.example.com", None, {"batch_api": "voyage"})

    def of(provider, at=endpoint):
        return registry.of_model(Model(1, "m", provider, None, 8, {}, at))

    assert of("voyage") is registry.batch_api(endpoint)
    assert of("openai") is None
    assert of("cohere") is None
    assert of("hash", None) is None
    assert of("voyage", Endpoint("e", "https://x.example.com", None, {})) is None


def test_every_format_is_registered():
    assert set(registry.NAMES) == set(SERVERS)
    for name in registry.NAMES:
        api = registry.batch_api(Endpoint("e", "https://x.example.com", None, {"batch_api": name}))
        assert api is not None
        assert api.name == name
        assert 0 < api.discount < 1
