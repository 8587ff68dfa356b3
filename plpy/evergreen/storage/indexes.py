"""The index of a generation: its definition, and the expressions that a search must use."""

import hashlib

from evergreen import db
from evergreen.catalog.options import GENERATION
from evergreen.catalog.pg_cron import index_job
from evergreen.core.frozen import frozen
from evergreen.core.pipeline import Generation
from evergreen.db.queries import load

SQL = load(__package__)
# https://github.com/pgvector/pgvector#hnsw: the maximum dimensions of an HNSW index.
_VECTOR, _HALFVEC = 2000, 4000
_OPERATORS = {"cosine": "<=>", "l2": "<->", "ip": "<#>"}
#: A higher score is better: cosine similarity, the negative distance, the inner product.
_SCORES = {"cosine": "1 - ({distance})", "l2": "-({distance})", "ip": "-({distance})"}
#: Factor of chunks to fetch and rescore exactly, because the index is quantized.
_OVERSAMPLING = {"vector": 1, "halfvec": 4, "bit": 20}
# A tsvector holds 1 MB at most. For the worst texts tried (unique words, hyphens, URLs, four-byte characters) this many
# characters stay below that. Models read less of a text than this.
MAX_KEYWORD_CHARACTERS = 100_000


@frozen
class Index:
    """How the vectors of one generation are compared. ``schema``: pgvector's, quoted."""

    dimensions: int
    distance: str
    storage: str
    schema: str

    @property
    def operator(self) -> str:
        """The distance between two vectors."""
        return f"OPERATOR({self.schema}.{_OPERATORS[self.distance]})"

    def score(self, distance: str) -> str:
        """Return the score for a distance."""
        return _SCORES[self.distance].format(distance=distance)

    @property
    def oversampling(self) -> int:
        """Factor of chunks to fetch from the index."""
        return _OVERSAMPLING[self.storage]

    def quantized(self, vector: str) -> str:
        """Return the indexed expression of a vector."""
        if self.storage == "halfvec":
            return f"({vector})::{self.schema}.halfvec({self.dimensions})"
        if self.storage == "bit":
            return f"{self.schema}.binary_quantize({vector})::pg_catalog.bit({self.dimensions})"
        return vector

    def order(self, left: str, right: str) -> str:
        """Return the distance that the index supports."""
        operator = f"OPERATOR({self.schema}.<~>)" if self.storage == "bit" else self.operator
        return f"{self.quantized(left)} {operator} {self.quantized(right)}"

    def definition(self, column: str) -> str:
        """Return the column or expression with its operator class, for CREATE INDEX.

        An expression casts like the view, otherwise the planner would not match it; the column has the dimensions.
        """
        kind = {"vector": f"vector_{self.distance}", "halfvec": f"halfvec_{self.distance}", "bit": "bit_hamming"}
        what = column if self.storage == "vector" else f"({self.quantized(f'{column}::{self.schema}.vector')})"
        return f"{what} {self.schema}.{kind[self.storage]}_ops"


def index_of_options(generation: Generation, schema: str) -> Index:
    """Return the index of a generation, by its options."""
    chosen = {name: generation.options.get(name, option.default) for name, option in GENERATION.items()}
    dimensions = generation.model.dimensions
    storage = str(chosen["storage"])
    if storage == "auto":
        storage = "vector" if dimensions <= _VECTOR else "halfvec" if dimensions <= _HALFVEC else "bit"
    return Index(dimensions, str(chosen["distance"]), storage, schema)


def not_blank(index: Index, vector: str) -> str:
    """Return the condition that a vector is not all zeros; with cosine distance zeros sort last anyway."""
    if index.distance == "cosine" and index.storage != "bit":
        return ""
    return f" AND {length_above_zero(index.schema, vector)}"


def length_above_zero(schema: str, vector: str) -> str:
    """Return the condition that a vector has a direction. ``schema``: pgvector's, quoted."""
    return f"{schema}.vector_norm({vector}) OPERATOR(pg_catalog.>) 0"


def name(generation: Generation) -> str:
    """Return the name of the index, without its schema."""
    return f"g{generation.id}_embedding_idx"


def new_name(generation: Generation) -> str:
    """Return the name of an index that is built to take the place of a bloated one, without its schema."""
    return f"g{generation.id}_embedding_new_idx"


def exists(index: str) -> bool:
    """Return whether an index of this name, without its schema, exists and is valid."""
    return bool(db.value(SQL.is_valid_index, index))


def words_name(generation: Generation, language: str) -> str:
    """Return the name of the index over the words, without its schema; ``language``: a full name."""
    return f"g{generation.id}_words_{hashlib.md5(language.encode(), usedforsecurity=False).hexdigest()[:8]}_idx"


def language_constant(language: str) -> str:
    """Return a text search configuration, by its full name, as SQL writes it."""
    return f"{db.literal(language)}::pg_catalog.regconfig"


def words_expression(text: str, language: str) -> str:
    """Return the expression for the words of an expression ``text``; ``language``: from ``language_constant``."""
    return f'pg_catalog.to_tsvector({language}, pg_catalog."left"({text}, {MAX_KEYWORD_CHARACTERS}))'


def unschedule(generations: list[int]) -> None:
    """Remove the index jobs of generations to be dropped."""
    if has_pg_cron():
        db.rows(SQL.unschedule_index_jobs, generations, index_job("g"))


def has_pg_cron() -> bool:
    """Return whether pg_cron runs in this database."""
    return bool(db.value(SQL.has_pg_cron))
