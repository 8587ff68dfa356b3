"""Providers asked directly, without a database: real sockets, short times."""

import pytest

from evergreen.model.request import Request
from tests.fixtures.providers.direct import SERVED, model_of


@pytest.fixture
def ask(provider):
    """Ask the loopback model: ``ask('openai', ['text'], kind='query', endpoint={…}, **options)``."""

    def asked(name, texts, kind="document", *, truncate=False, lifeline=None, url=None, dimensions=8, **given):
        line = {"lifeline": lifeline} if lifeline is not None else {}
        chosen = model_of(name, url or provider.url_of(name), dimensions, **given)
        return SERVED[name].embed(chosen, Request(texts, kind, truncate, **line))

    return asked
