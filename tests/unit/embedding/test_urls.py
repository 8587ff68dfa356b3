"""A protocol's path is appended to an endpoint's URL as far as it is not there yet."""

import pytest

from evergreen.embedding.http.urls import joined

HOST = "https://models.example.com"
CASES = {
    "embeddings": {"": "/embeddings", "/": "/embeddings", "/v1": "/v1/embeddings", "/v1/": "/v1/embeddings"}
    | {"/v1/embeddings": "/v1/embeddings", "/v1/embeddings/": "/v1/embeddings", "/a/b": "/a/b/embeddings"},
    "api/embed": {"": "/api/embed", "/": "/api/embed", "/api": "/api/embed", "/api/": "/api/embed"}
    | {"/api/embed": "/api/embed", "/ollama": "/ollama/api/embed", "/ollama/api": "/ollama/api/embed"}
    | {"/my-api": "/my-api/api/embed"},
    "v2/embed": {"": "/v2/embed", "/v2": "/v2/embed", "/v2/": "/v2/embed", "/v2/embed": "/v2/embed"}
    | {"/v1": "/v2/embed", "/v1/embed": "/v1/embed", "/cohere": "/cohere/v2/embed", "/cohere/v2": "/cohere/v2/embed"},
    "v1/embeddings": {"": "/v1/embeddings", "/v1": "/v1/embeddings", "/v1/embeddings": "/v1/embeddings"}
    | {"/voyage": "/voyage/v1/embeddings", "/voyage/v1/": "/voyage/v1/embeddings"},
}


@pytest.mark.parametrize(("path", "base"), [(path, base) for path, bases in CASES.items() for base in bases])
def test_the_url_is_lenient_about_where_it_ends(path, base):
    assert joined(HOST + base, path) == HOST + CASES[path][base]


def test_ports_and_brackets_stay():
    assert joined("http://[::1]:8080", "api/embed") == "http://[::1]:8080/api/embed"
