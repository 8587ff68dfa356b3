"""Server side of Evergreen: what the extension's PL/Python imports. Only ``evergreen.db`` touches ``plpy``."""

import os

# A backend must stay single-threaded where signals are concerned: a pool that a library starts would receive them.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

__version__ = "0.2.0"

_schema = "public"


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


def extension_schema() -> str:
    """Return the quoted name of the schema that holds the embed_* functions."""
    return _schema
