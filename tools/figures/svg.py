"""A few shapes of SVG, in one style."""

from dataclasses import dataclass, field
from html import escape

INK, SOFT, LINE = "#1f2d2b", "#5c6b69", "#8aa5a1"
FILL, STRONG, OTHER = "#e0f2f0", "#00897b", "#b0bec5"
_FONT = "font-family='system-ui, DejaVu Sans, sans-serif'"
_ARROW = (
    f"<defs><marker id='arrow' viewBox='0 0 10 10' refX='9' refY='5' markerWidth='7' markerHeight='7' orient='auto-start-reverse'>"
    f"<path d='M0 0 10 5 0 10z' fill='{LINE}'/></marker></defs>"
)


@dataclass
class Picture:
    """A picture of a size, with a description for those who cannot see it."""

    width: int
    height: int
    description: str
    parts: list[str] = field(default_factory=list)

    def text(
        self,
        x: float,
        y: float,
        text: str,
        *,
        size: int = 14,
        color: str = INK,
        anchor: str = "start",
        bold: bool = False,
    ) -> None:
        """Write a line of text."""
        weight = " font-weight='600'" if bold else ""
        self.parts.append(
            f"<text x='{x:g}' y='{y:g}' font-size='{size}' fill='{color}' text-anchor='{anchor}'{weight}>{escape(text)}</text>"
        )

    def box(self, x: float, y: float, width: float, height: float, title: str, *lines: str, color: str = FILL) -> None:
        """Draw a box with a title and smaller lines below it."""
        self.rectangle(x, y, width, height, color, outline=True)
        self.text(x + width / 2, y + 24, title, anchor="middle", bold=True)
        for number, line in enumerate(lines):
            self.text(x + width / 2, y + 45 + 18 * number, line, size=12, color=SOFT, anchor="middle")

    def rectangle(self, x: float, y: float, width: float, height: float, color: str, *, outline: bool = False) -> None:
        """Draw a rectangle."""
        stroke = f" stroke='{LINE}' rx='6'" if outline else " rx='2'"
        self.parts.append(f"<rect x='{x:g}' y='{y:g}' width='{width:g}' height='{height:g}' fill='{color}'{stroke}/>")

    def arrow(self, *points: tuple[float, float]) -> None:
        """Draw a line through points, with a tip at its end."""
        path = " ".join(f"{x:g},{y:g}" for x, y in points)
        self.parts.append(
            f"<polyline points='{path}' fill='none' stroke='{LINE}' stroke-width='2' marker-end='url(#arrow)'/>"
        )

    def render(self) -> str:
        """Return the picture as a file's text."""
        head = (
            f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {self.width} {self.height}' width='{self.width}' "
            f"role='img' {_FONT}>\n<title>{escape(self.description)}</title>\n{_ARROW}\n"
        )
        return head + "\n".join(self.parts) + "\n</svg>\n"
