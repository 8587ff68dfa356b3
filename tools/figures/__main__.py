"""Draws the pictures: `python -m tools.figures`."""

from tools.figures import charts, drawings
from tools.paths import DOCS

PICTURES = {
    "flow.svg": drawings.flow,
    "generations.svg": drawings.generations,
    "lag.svg": charts.lag,
    "cost.svg": charts.cost,
}


def main() -> None:
    """Write every picture."""
    for name, draw in PICTURES.items():
        (DOCS / "assets" / name).write_text(draw(), "utf-8")


if __name__ == "__main__":
    main()
