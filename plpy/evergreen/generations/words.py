"""The words of a chunk, for full text search: one expression for the search and for its index."""

from evergreen import db

# A tsvector holds 1 MB at most. Of the worst texts tried (no word twice, hyphens, URLs, characters of four bytes) the
# words of this many characters take less than that; a model reads less of a text than this, too.
MOST = 100_000


def constant(language: str) -> str:
    """Return a text search configuration, by its full name, as SQL writes it."""
    return f"{db.literal(language)}::pg_catalog.regconfig"


def of(text: str, language: str) -> str:
    """Return the expression for the words of an expression ``text``; ``language``: as ``constant`` gives it."""
    return f'pg_catalog.to_tsvector({language}, pg_catalog."left"({text}, {MOST}))'
