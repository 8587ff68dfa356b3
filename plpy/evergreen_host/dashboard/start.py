"""Starts the page, if the packages that it needs are installed."""

from importlib import import_module
from pathlib import Path

from evergreen_host.errors import MissingError


def serve_dashboard(dsn: str, listen: str, hosts: tuple[str, ...], *, read_only: bool, token_file: Path | None) -> None:
    """Serve the page until it is interrupted; raises MissingError without the extra, EvergreenError."""
    try:
        for package in ("jinja2", "numpy", "starlette", "uvicorn"):
            import_module(package)
    except ImportError as error:
        raise MissingError(
            f"the dashboard needs the package {error.name}", "run: pip install 'pg-evergreen[dashboard]'"
        ) from error
    run = import_module("evergreen_host.dashboard.run")
    run.run(run.Settings(dsn, listen, read_only, token_file, hosts))
