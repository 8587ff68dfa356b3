"""Output of the demo: rich on a terminal, plain lines elsewhere."""

import textwrap
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

_PLAIN_WIDTH = 110


def _cell(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


class Screen:
    """Prints headings, statements, output and tables."""

    def __init__(self) -> None:
        console = Console(highlight=False)
        self.console = console if console.is_terminal else Console(highlight=False, width=_PLAIN_WIDTH)
        self._acts = 0

    def heading(self, title: str, explanation: str) -> None:
        """Start an act."""
        self._acts += 1
        self.console.print(Text(f"\n{self._acts}. {title}", style="bold green"))
        self.text(f"{explanation}\n")

    def text(self, text: str) -> None:
        """Print prose."""
        self.console.print(Text(text), soft_wrap=not self.console.is_terminal)

    def sql(self, statement: str) -> None:
        """Print a statement."""
        text = f"{statement};"
        if self.console.is_terminal:
            code = Syntax(text, "sql", background_color="default", theme="ansi_dark", word_wrap=True)
            self.console.print(Padding(code, (0, 0, 0, 4)))
        else:
            self.console.out(textwrap.indent(text, "    "))

    def server_output(self, text: str) -> None:
        """Print output of the server."""
        self.console.print(Text(f"    {text}", style="dim"), soft_wrap=True)

    def table(self, headers: Sequence[str], rows: Sequence[Sequence[object]], total: Sequence[object] = ()) -> None:
        """Print rows with numbers aligned right, and `total` in the footer."""
        table = Table(pad_edge=False, show_footer=bool(total))
        footers = [_cell(value) for value in total] or [""] * len(headers)
        for number, (header, foot) in enumerate(zip(headers, footers, strict=True)):
            table.add_column(Text(header), Text(foot), justify="left" if number == 0 else "right", overflow="fold")
        for row in rows:
            table.add_row(*(Text(_cell(value)) for value in row))
        self.console.print(Padding(table, (0, 0, 0, 4)))

    @contextmanager
    def progress(self, what: str, total: int) -> Generator[Callable[[int], None], None, None]:
        """Yield a function that advances the progress."""
        if not self.console.is_terminal:
            yield self._counter(what, total)
            return
        columns = (TextColumn("    {task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=self.console) as bar:
            task = bar.add_task(what, total=total)
            yield lambda more: bar.advance(task, more)

    def _counter(self, what: str, total: int) -> Callable[[int], None]:
        done = 0

        def advance(more: int) -> None:
            nonlocal done
            done += more
            self.server_output(f"{done:,} of {total:,} {what}")

        return advance

    @contextmanager
    def waiting(self, text: str) -> Generator[Callable[[str], None], None, None]:
        """Show a status; yields a function that changes its text on a terminal."""
        if not self.console.is_terminal:
            self.server_output(text)
            yield lambda _: None
            return
        with self.console.status(text) as status:
            yield status.update
