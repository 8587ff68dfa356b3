"""Server side of Evergreen: what the extension's PL/Python imports. Only ``evergreen.db`` touches ``plpy``."""

import os
from pathlib import Path

from evergreen.core import isolation

__version__ = "0.3.0.dev0"
_schema = "public"
_ready = False

# A backend must stay single-threaded where signals are concerned: a pool that a library starts would receive them.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def enter(version: str, schema: str) -> None:
    """Called first by every SQL function: checks that this session loaded the library of the installed extension.

    ``schema`` is the extension's schema as a quoted identifier. Raises RuntimeError on a version mismatch, which means
    that the extension was updated after this session had loaded the older library.
    """
    global _schema  # noqa: PLW0603 - one extension a database, one database a session
    if version != __version__:
        raise RuntimeError(
            f"this session loaded evergreen {__version__} and the extension is now {version}: reconnect to go on"
        )
    _schema = schema
    if not _ready:
        _isolate()


def _isolate() -> None:
    """Keep our packages apart from others' of the same names, before the first of them is imported."""
    global _ready  # noqa: PLW0603 - once a session
    try:
        isolation.activate(Path(__file__).parents[1])
    except isolation.UnsuitableError as error:
        from evergreen import db  # noqa: PLC0415 - it needs plpy, which only a server has
        from evergreen.core.errors import UserError  # noqa: PLC0415

        hint = "Reconnect and call evergreen first, or upgrade that numpy: a process cannot load two."
        db.fail(UserError(str(error), "55000", hint=hint))
    _ready = True


def extension_schema() -> str:
    """Return the quoted name of the schema that holds the embed_* functions."""
    return _schema
