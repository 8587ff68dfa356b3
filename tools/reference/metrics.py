"""Reference of the Prometheus metrics, as a database answers them."""

from evergreen_host.monitor import metrics
from tools.reference.markdown import code, page, sentence, table

INTRODUCTION = """\
Every metric of `evergreen metrics`, which prints them once, or serves them with `--serve`.

`evergreen metrics --dashboard` prints a Grafana dashboard of them. A metric without a value, such as a lag before the first
change, is left out."""


def render(dsn: str) -> str:
    """Return the page; the database has a pipeline that has embedded a row."""
    rows = []
    for family in metrics.registry(dsn).collect():
        name = family.name + ("_total" if family.type == "counter" else "")
        labels = sorted(family._labelnames)  # pyright: ignore[reportAttributeAccessIssue]
        rows.append((code(name), family.type, ", ".join(map(code, labels)), sentence(family.documentation)))
    return page("Metrics", INTRODUCTION, table(("metric", "type", "labels", "meaning"), rows))
