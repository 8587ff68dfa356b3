"""The index of a generation: what it is made of, and how a search must ask to be served by it."""

from dataclasses import dataclass

from evergreen import db
from evergreen.catalog.options import GENERATION
from evergreen.core.pipeline import Generation
from evergreen.db.queries import load

SQL = load(__package__)
# https://github.com/pgvector/pgvector#hnsw: what an HNSW index takes at most.
_VECTOR, _HALFVEC = 2000, 4000
_OPERATORS = {"cosine": "<=>", "l2": "<->", "ip": "<#>"}
#: A higher score is better: cosine similarity, the negative distance, the inner product.
_SCORES = {"cosine": "1 - ({distance})", "l2": "-({distance})", "ip": "-({distance})"}
#: How many more chunks than wanted are looked at exactly, where the index knows the vectors only roughly.
_OVERSAMPLING = {"vector": 1, "halfvec": 4, "bit": 20}
# A tsvector holds 1 MB at most. Of the worst texts tried (no word twice, hyphens, URLs, characters of four bytes) the
# words of this many characters take less than that; a model reads less of a text than this, too.
MAX_KEYWORD_CHARACTERS = 100_000


@dataclass(frozen=True)
class Index:
    """How the vectors of one generation are compared. ``schema``: where pgvector is, quoted."""

    dimensions: int
    distance: str
    storage: str
    schema: str

    @property
    def operator(self) -> str:
        """The distance between two vectors."""
        return f"OPERATOR({self.schema}.{_OPERATORS[self.distance]})"

    def score(self, distance: str) -> str:
        """The score for a distance."""
        return _SCORES[self.distance].format(distance=distance)

    @property
    def oversampling(self) -> int:
        """So many times the chunks that are wanted are taken from the index."""
        return _OVERSAMPLING[self.storage]

    def quantized(self, vector: str) -> str:
        """What stands in the index for a vector."""
        if self.storage == "halfvec":
            return f"({vector})::{self.schema}.halfvec({self.dimensions})"
        if self.storage == "bit":
            return f"{self.schema}.binary_quantize({vector})::pg_catalog.bit({self.dimensions})"
        return vector

    def order(self, left: str, right: str) -> str:
        """The distance that the index serves."""
        operator = f"OPERATOR({self.schema}.<~>)" if self.storage == "bit" else self.operator
        return f"{self.quantized(left)} {operator} {self.quantized(right)}"

    def definition(self, column: str) -> str:
        """The column or expression with its operator class, as CREATE INDEX takes it.

        An expression casts as the view does, or the planner would not know it again; the column has the dimensions.
        """
        kind = {"vector": f"vector_{self.distance}", "halfvec": f"halfvec_{self.distance}", "bit": "bit_hamming"}
        what = column if self.storage == "vector" else f"({self.quantized(f'{column}::{self.schema}.vector')})"
        return f"{what} {self.schema}.{kind[self.storage]}_ops"


def index_of_options(generation: Generation, schema: str) -> Index:
    """Return the index of a generation as its options say."""
    chosen = {name: generation.options.get(name, option.default) for name, option in GENERATION.items()}
    dimensions = generation.model.dimensions
    storage = str(chosen["storage"])
    if storage == "auto":
        storage = "vector" if dimensions <= _VECTOR else "halfvec" if dimensions <= _HALFVEC else "bit"
    return Index(dimensions, str(chosen["distance"]), storage, schema)


def not_blank(index: Index, vector: str) -> str:
    """The condition that a vector is not all zeros. With the cosine such a one is at no distance and comes last."""
    if index.distance == "cosine" and index.storage != "bit":
        return ""
    return f" AND {length_above_zero(index.schema, vector)}"


def length_above_zero(schema: str, vector: str) -> str:
    """The condition that a vector has a direction. ``schema``: where pgvector is, quoted."""
    return f"{schema}.vector_norm({vector}) OPERATOR(pg_catalog.>) 0"


def name(generation: Generation) -> str:
    """Return the name of the index, without its schema."""
    return f"g{generation.id}_embedding_idx"


def language_constant(language: str) -> str:
    """Return a text search configuration, by its full name, as SQL writes it."""
    return f"{db.literal(language)}::pg_catalog.regconfig"


def words_expression(text: str, language: str) -> str:
    """Return the expression for the words of an expression ``text``; ``language``: as ``constant`` gives it."""
    return f'pg_catalog.to_tsvector({language}, pg_catalog."left"({text}, {MAX_KEYWORD_CHARACTERS}))'


def unschedule(generations: list[int]) -> None:
    """Remove the jobs that make indexes of generations that are going."""
    if has_cron():
        db.rows(SQL.unschedule_of, generations)


def has_cron() -> bool:
    """Tell whether pg_cron runs in this database."""
    return bool(db.value(SQL.has_cron))
