"""Charts of what `make bench` and `make demo` print."""

import re

from tools.figures.svg import OTHER, SOFT, STRONG, Picture
from tools.paths import DOCS, ROOT

BENCH = ROOT / "tools" / "figures" / "bench.txt"
COST_PAGE = DOCS / "explanation" / "cost.md"
_LEFT, _RIGHT, _ROW = 290, 640, 34
_LAG = re.compile(r"^ {2}(\S.*?) +p50 +([\d.]+) .*?p99 +([\d.]+) ", re.MULTILINE)


def lag() -> str:
    """From a commit to its being searchable, by the kind of worker."""
    found = _LAG.findall(BENCH.read_text("utf-8"))
    bars = [
        (f"{name}, {share}", float(value))
        for name, *values in found
        for share, value in zip(("p50", "p99"), values, strict=True)
    ]
    return _chart("From commit to searchable at 50 changes a second", "ms", bars, strong="evergreen worker")


def cost() -> str:
    """Texts that a day of changes sends to the model, by the method."""
    page = COST_PAGE.read_text("utf-8")
    (head,) = re.findall(r"┃what happened +┃ *(.+?)┃\n", page)
    (total,) = re.findall(r"│total +│ *(.+?)│\n", page)
    names = [name.strip() for name in head.split("┃")][1:]
    texts = [float(number.strip().replace(",", "")) for number in total.split("│")][1:]
    return _chart(
        "Texts sent to the model by a day of changes to 3,000 documents",
        "texts",
        [*zip(names, texts, strict=True)],
        strong="Evergreen",
    )


def _chart(title: str, unit: str, bars: list[tuple[str, float]], *, strong: str) -> str:
    height = 60 + _ROW * len(bars)
    picture = Picture(
        _LEFT + _RIGHT, height, f"{title}: " + ", ".join(f"{name} {value:,.0f} {unit}" for name, value in bars)
    )
    picture.text(10, 26, title, size=16, bold=True)
    most = max(value for _, value in bars)
    for number, (name, value) in enumerate(bars):
        top = 46 + _ROW * number
        width = max(2.0, (_RIGHT - 110) * value / most)
        picture.text(_LEFT - 12, top + 16, name, anchor="end", color=SOFT)
        picture.rectangle(_LEFT, top, width, 22, STRONG if name.startswith(strong) else OTHER)
        picture.text(_LEFT + width + 8, top + 16, f"{value:,.0f} {unit}", bold=name.startswith(strong))
    return picture.render()
