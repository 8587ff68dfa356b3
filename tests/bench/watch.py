"""Watches a pipeline's view for texts that were written, and records how long each took to appear."""

import threading
import time

import psycopg


class Watch:
    """Looks for what was written until it is shown; ``lags`` are in milliseconds."""

    def __init__(self, dsn: str, view: str = "docs_embedding") -> None:
        self.lags: list[float] = []
        self._written: dict[str, float] = {}
        self._guard = threading.Lock()
        self._db = psycopg.connect(dsn, autocommit=True)
        self._query = f"SELECT chunk FROM {view} WHERE chunk = ANY (%s)"
        threading.Thread(target=self._look, daemon=True).start()

    def wrote(self, text: str, at: float) -> None:
        """Begin to look for a text that was committed at this time."""
        with self._guard:
            self._written[text] = at

    def _look(self) -> None:
        while True:
            with self._guard:
                texts = list(self._written)
            if texts:
                found = self._db.execute(self._query, (texts,)).fetchall()
                now = time.perf_counter()
                with self._guard:
                    self.lags += [1000 * (now - self._written.pop(text)) for (text,) in found]
            threading.Event().wait(0.002)
