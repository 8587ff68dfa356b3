"""embed_preview: three rows' chunks and what the whole table would cost, before anything is created."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from evergreen import db
from evergreen.core import text as tokens
from evergreen.core.embedding import Limits, Texts
from evergreen.core.errors import RejectedError, UserError
from evergreen.core.frozen import frozen
from evergreen.core.pipeline import Model
from evergreen.core.text import format_number, pluralize
from evergreen.db.errors import is_insufficient_privilege
from evergreen.db.privileges import as_extension_owner, caller, sql_entry
from evergreen.db.queries import load
from evergreen.embedding.batching import CostEstimate, Workload, estimate_cost, pack
from evergreen.embedding.providers.registry import provider
from evergreen.pipelines import validation
from evergreen.pipelines.validation import Preparation
from evergreen.prepare import chunkers, documents, fingerprint
from evergreen.source import expressions as ex
from evergreen.source import functions
from evergreen.source.table import Source

SQL = load(__package__)
_SAMPLE = 1000  # rows; a smaller table is read whole
_MOST_CHARACTERS = 16 * 1024 * 1024  # of text, then the sample is large enough
Shown = tuple[str, int | None, str | None, int]


@frozen
class _Plan:
    """What would be created, as far as it was asked for."""

    source: Source
    rows: int  # about
    is_small: bool  # they may be counted
    preparation: Preparation
    model: Model
    limits: Limits
    free: bool

    @property
    def split(self) -> Callable[[str], list[str]]:
        return chunkers.chunker(self.preparation.chunker)

    @property
    def content(self) -> dict[str, str]:
        """The expressions for what is cut, and for what stands around each chunk."""
        given = self.preparation.columns, self.preparation.template, self.source
        return {"content": functions.content(*given), "frame": functions.wrapper(*given)}


@sql_entry
def embed_preview(
    source: str | None, columns: list[str | None] | None, template: str | None, chunker: str | None, model: str | None
) -> list[Shown]:
    """Return (key, chunk_no, chunk, tokens) of three rows, and say in a NOTICE what the table would cost.

    Rows are read with the caller's own rights, so that what runs with them (output functions, row security) does too.
    Raises what embed_create raises for these arguments, and 42501 for a table that the caller may not read.
    """
    role = caller()

    def plan() -> _Plan:
        table = validation.check_readable(source, role)
        preparation = validation.check_preparation(table, columns, template, chunker, None)
        chosen = validation.check_model(model)
        serving = provider(chosen.provider)
        about = db.in_discarded_subtransaction(lambda: db.one(SQL.rough_rows, table.oid))
        assert about is not None
        is_small = bool(about["is_small"])
        return _Plan(table, about["rows"], is_small, preparation, chosen, serving.limits(chosen), serving.free)

    wanted = as_extension_owner(plan)
    try:
        if wanted.is_small:
            wanted = replace(wanted, rows=db.in_discarded_subtransaction(lambda: _counted(wanted)))
        shown = db.in_discarded_subtransaction(lambda: list(_first_rows(wanted)))
        sample = db.in_discarded_subtransaction(lambda: _sample(wanted))
    except db.DatabaseError as error:
        if not is_insufficient_privilege(error):
            raise
        raise UserError(
            db.message(error), "42501", hint="SELECT on the key's columns, and on those of the text, is needed."
        ) from error
    _tell(wanted, sample)
    return shown


def _counted(plan: _Plan) -> int:
    return int(db.value(SQL.count_rows.with_identifiers(source=plan.source.from_clause)))


def _first_rows(plan: _Plan) -> Iterator[Shown]:
    source = plan.source
    query = SQL.first_rows.with_identifiers(
        key=ex.key("s", source.key) if source.key else "NULL",
        **plan.content,
        source=source.from_clause,
        order=", ".join(ex.reference("s", column) for column in source.key) or "1",
    )
    for row in db.rows(query):
        pieces = _texts(plan, row)
        if not pieces:
            yield row["key"], None, None, 0
        for place, piece in enumerate(pieces):
            yield row["key"], place, piece, tokens.estimate_tokens(piece)


def _texts(plan: _Plan, row: db.Row) -> list[str]:
    try:
        return documents.texts(plan.split, row["content"], row["frame"])
    except RejectedError as error:
        raise UserError(str(error), "54000", hint="Take long columns out of the template.") from error


@dataclass
class _Sample:
    """What some of the rows would cost."""

    rows: int = 0
    is_whole: bool = True
    too_long: int = 0
    load: Workload = field(default_factory=Workload)


def _sample(plan: _Plan) -> _Sample:
    on = {**plan.content, "source": plan.source.from_clause}
    if plan.rows <= _SAMPLE:
        return _reckoned(plan, db.stream(SQL.all_rows.with_identifiers(**on), 2 * _SAMPLE))
    if plan.source.kind == "v":  # there are no pages to choose from
        sample = _reckoned(plan, db.stream(SQL.all_rows.with_identifiers(**on), _SAMPLE))
        sample.is_whole = False
        return sample
    percent = str(min(100.0, 100.0 * _SAMPLE / plan.rows))
    sample = _reckoned(plan, db.stream(SQL.sample_rows.with_identifiers(**on, percent=percent), 2 * _SAMPLE))
    if not sample.rows:  # whole pages are taken, and these were none
        sample = _reckoned(plan, db.stream(SQL.all_rows.with_identifiers(**on), _SAMPLE))
    sample.is_whole = False
    return sample


def _reckoned(plan: _Plan, rows: Iterator[db.Row]) -> _Sample:
    """Cut the rows' texts, each text once, and pack them as a worker would."""
    sample = _Sample()
    hash_chunk = fingerprint.chunk(plan.model.identity)
    texts: Texts = {}
    characters = 0
    for row in rows:
        sample.rows += 1
        for piece in _texts(plan, row):
            if plan.limits.input_tokens is not None and tokens.estimate_tokens(piece) > plan.limits.input_tokens:
                sample.too_long += 1
            else:
                texts[hash_chunk(piece)] = piece
            characters += len(piece)
        if characters > _MOST_CHARACTERS:
            sample.is_whole = False
            break
    weight = sum(tokens.estimate_tokens(text) for text in texts.values())
    sample.load = Workload(sample.rows, len(texts), weight, sum(1 for _ in pack(texts, plan.limits)))
    return sample


def _tell(plan: _Plan, sample: _Sample) -> None:
    whole = plan.source.qualified
    rows = sample.rows if sample.is_whole else max(plan.rows, sample.rows)
    load = sample.load if sample.is_whole else sample.load.times(rows / max(1, sample.rows))
    total = estimate_cost(plan.model, load, plan.limits, free=plan.free)
    about = "" if sample.is_whole else f"estimated from {pluralize(sample.rows, 'row')}, about "
    db.notice(
        f"{whole} with model {plan.model.name}: {about}{pluralize(rows, 'row')}, {pluralize(total.texts, 'text')},"
        f" {pluralize(total.tokens, 'token')}, {pluralize(total.calls, 'call')}, {_money(plan, total)},"
        f" {format_number(total.seconds)} s; next: SELECT embed_create('name', {db.literal(whole)}, …)"
    )
    if sample.too_long:
        db.warning(
            f"{pluralize(sample.too_long, 'text')} of {pluralize(sample.rows, 'row')} would be longer than the"
            f" {format_number(plan.limits.input_tokens or 0)} tokens that model {plan.model.name} takes, and fail",
            hint='Pass chunker => embed_chunk_text(), or embed_create(…, options => \'{"on_too_long": "truncate"}\').',
        )


def _money(plan: _Plan, total: CostEstimate) -> str:
    if plan.free:
        return "no cost"
    return "cost unknown (the model has no option price)" if total.cost is None else f"cost {total.cost:.6g}"
