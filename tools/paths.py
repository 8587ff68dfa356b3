"""Where the project's files are."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
SERVER = ROOT / "plpy" / "evergreen"
HOST = ROOT / "plpy" / "evergreen_host"
