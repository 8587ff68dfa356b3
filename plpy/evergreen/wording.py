"""Figures as they stand in messages."""


def number(value: float) -> str:
    """Group digits in threes: 3,012."""
    return f"{value:,.0f}"


def counted(value: int, one: str, many: str | None = None) -> str:
    """Return a number with its noun: 1 row, 3,012 rows."""
    return f"{number(value)} {one if value == 1 else many or f'{one}s'}"
