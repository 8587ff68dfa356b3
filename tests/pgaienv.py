"""pgai itself, in an environment of its own, and its worker in a process there."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

# Not its extra vectorizer-worker: that brings gigabytes more, for documents that are no plain text and other providers.
PACKAGES = [
    "pgai==0.12.1", "pgvector<1", "ollama<0.6", "numpy", "filetype==1.2.0", "ijson", "tiktoken", "tokenizers", "openai",
    "langchain-text-splitters",
]  # fmt: skip
_ENVIRONMENT = Path(__file__).parents[1] / "build" / "bench" / "pgai"
_WORKER = Path(__file__).parent / "bench" / "pgai_worker.py"


def environment() -> Path:
    """The Python of an environment with pgai in it, made once; skips the test where it cannot be installed."""
    program = _ENVIRONMENT / "bin" / "python"
    installed = _ENVIRONMENT / ".installed"
    if not installed.exists() or installed.read_text("utf-8") != " ".join(PACKAGES):
        pip = [program, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--retries", "1"]
        try:
            subprocess.run([sys.executable, "-m", "venv", _ENVIRONMENT], check=True, capture_output=True, text=True)
            subprocess.run([*pip, *PACKAGES], check=True, capture_output=True, text=True, timeout=300)
        except subprocess.CalledProcessError as error:
            pytest.skip(f"pgai cannot be installed here: {str(error.stderr).strip().splitlines()[-1]}")
        except subprocess.TimeoutExpired:
            pytest.skip("pgai cannot be installed here in five minutes")
        installed.write_text(" ".join(PACKAGES), "utf-8")
    return program


class Worker:
    """pgai's worker in its own process and environment; its tables are in the database when it is made."""

    def __init__(self, python: Path, dsn: str) -> None:
        self._process = subprocess.Popen(
            [python, _WORKER, dsn], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "OPENAI_API_KEY": "none"},
        )  # fmt: skip
        assert self._answer() == "ready"

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def work(self, side_by_side: int = 1) -> float:
        """Work until the queue is empty; return the seconds it took."""
        assert self._process.stdin is not None
        print(side_by_side, file=self._process.stdin, flush=True)
        return float(self._answer())

    def end(self) -> None:
        """End it."""
        self._process.communicate()
