"""Pipelines, generations, models and endpoints as the catalog has them."""

import json
from dataclasses import field
from typing import Any

from evergreen.core.errors import UserError
from evergreen.core.frozen import frozen

TOTAL_TIMEOUT = 60.0  # seconds
READ_TIMEOUT = 30.0
_LONG = 600.0  # for what runs in this process


@frozen
class Endpoint:
    """Where a model is served. ``secret`` is the name of a secret."""

    name: str
    url: str
    secret: str | None
    options: dict[str, Any] = field(default_factory=dict[str, Any])
    id: int = 0


@frozen
class Served:
    """What a model's watch knows: the revision that is served now, and how often that changed.

    ``revision``: None while answers alternate, or vectors of the time before the change are not marked yet.
    """

    revision: int | None = 1
    epoch: int = 0


@frozen
class Model:
    """A row of embed.model. ``revision``: that of a generation's vectors, or of the next generation."""

    id: int
    name: str
    provider: str
    remote_name: str | None
    dimensions: int
    options: dict[str, Any]
    endpoint: Endpoint | None
    revision: int = 1
    served: Served = Served()

    @property
    def is_served(self) -> bool:
        """Whether the server behind the model's name still gives vectors of this revision."""
        return self.served.revision == self.revision

    @property
    def price(self) -> float | None:
        """What a token costs, in whatever currency the option ``price`` (of a million tokens) is; None if not known."""
        price = self.options.get("price")
        return float(price) / 1e6 if price is not None else None

    @property
    def total_timeout(self) -> float:
        """Seconds after which a request is cut."""
        return float(self.endpoint.options.get("total_timeout", TOTAL_TIMEOUT)) if self.endpoint is not None else _LONG

    @property
    def answer_timeout(self) -> float:
        """Seconds within which a server that computes must begin to answer."""
        options = self.endpoint.options if self.endpoint is not None else {}
        return min(float(options.get("read_timeout", READ_TIMEOUT)), self.total_timeout)

    @property
    def identity(self) -> str:
        """What makes a vector of this model comparable with another: part of every fingerprint and chunk hash."""
        names = (self.provider, self.remote_name or self.name, str(self.dimensions))
        shaping = {k: self.options[k] for k in ("document_prompt", "query_prompt") if k in self.options}
        later = [self.revision] if self.revision > 1 else []  # the first has the hashes of before there were revisions
        return json.dumps([*names, shaping, *later], sort_keys=True, ensure_ascii=True)


@frozen
class Generation:
    """One (model, text preparation, chunker) of a pipeline: one vector space."""

    id: int
    pipeline: int
    known_model: Model | None  # None where a restore left its row out
    columns: tuple[str, ...] | None
    template: str | None
    chunker: dict[str, Any]
    watched: tuple[tuple[int, str], ...]  # (attnum, name)
    state: str
    options: dict[str, Any]

    @property
    def model(self) -> Model:
        """The model of its vectors; raises UserError 55000 where a restore left its row out."""
        if self.known_model is None:
            raise UserError(
                f"the model of generation {self.id} is missing from embed.model",
                "55000",
                hint="SELECT pipeline, last_error FROM embed_status; says what to do.",
            )
        return self.known_model

    @property
    def table(self) -> str:
        """The generation table, qualified."""
        return f"embed_store.g{self.id}"

    @property
    def readable(self) -> str:
        """The parent of the generation table, qualified: what the view reads, under row security."""
        return f"embed_store.readable_{self.id}"


@frozen
class Link:
    """A table under a view: which of its columns lead to which rows of the view. A table may have several links.

    ``columns``: (attnum, name) of the link; empty where changes of the table are not watched. ``target``: columns of
    the same values, of the view, or of the table with part ``via``, whose own link is the view's key.
    """

    id: int
    part: int
    base: int
    base_name: str  # quoted and qualified
    columns: tuple[tuple[int, str], ...]
    target: tuple[tuple[int, str], ...]
    via: int | None
    is_key: bool  # changes are logged as keys
    watched: tuple[tuple[int, str], ...]


@frozen
class Pipeline:
    """One source table or view that is kept embedded."""

    id: int
    name: str
    source: int
    source_name: str | None  # quoted and qualified; None when the table is gone
    recorded_name: str  # the last known one, by which a restored pipeline finds its table
    key: tuple[tuple[int, str, str], ...]  # (attnum, name, base type)
    only_if: tuple[int, str] | None
    capture: str
    triggers: bool  # they capture, be it until the WAL is read
    state: str
    broken_reason: str | None
    bound_name: str  # the source's name for which the functions were made
    view: int | None
    options: dict[str, Any]
    seen: tuple[int, int, int]  # system identifier, database, source
    owner: int | None
    generations: tuple[Generation, ...]
    missing_part: tuple[str, str] | None  # what it refers to and is not there, and what to do
    definition: str | None = None  # hash of the queries of a source that is a view; None: it is a table
    links: tuple[Link, ...] = ()

    @property
    def depends_on_reader(self) -> bool:
        """Whether the source is a view that may show each role other rows."""
        return (self.definition or "").startswith("reader ")

    @property
    def active(self) -> Generation:
        """The generation that searches see; raises UserError 55000 where a restore left it out."""
        if not self.generations or self.generations[0].state != "active":
            self.check_whole()
        return self.generations[0]

    def check_whole(self) -> None:
        """Raise UserError 55000 where the pipeline refers to what is not there."""
        if self.missing_part is not None:
            what, remedy = self.missing_part
            raise UserError(
                f'pipeline "{self.name}" is not whole: {what}', "55000", hint=f"{remedy[0].upper()}{remedy[1:]}."
            )

    @property
    def building(self) -> Generation | None:
        """The generation that may be promoted."""
        return next((g for g in self.generations if g.state == "building"), None)

    @property
    def previous(self) -> tuple[Generation, ...]:
        """The generations that were active, the last one first."""
        return tuple(g for g in self.generations if g.state == "previous")
