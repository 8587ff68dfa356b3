"""Runs `evergreen doctor` and types what it says."""

import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psycopg

from evergreen_host.database import linked
from evergreen_host.monitor import doctor as operate_doctor

EVERGREEN = Path(sys.executable).with_name("evergreen")


class Doctor:
    """What is wrong with a database, and a hand that pastes advice."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn

    def findings(self, check: str | None = None) -> list[dict[str, Any]]:
        """All findings, or those of one check."""
        with linked(self.dsn, "evergreen doctor") as link:
            return [asdict(one) for one in operate_doctor.findings(link) if check is None or one.check == check]

    def one(self, check: str) -> dict[str, Any]:
        """The only finding of a check."""
        found = self.findings(check)
        assert len(found) == 1, found
        return found[0]

    def type(self, finding: dict[str, Any], typed: str = "") -> None:
        """Paste the advice into a shell or psql; ``typed`` is what it then asks for."""
        assert finding["advice"], finding
        if finding["in_shell"]:
            path = f"{EVERGREEN.parent}{os.pathsep}{os.environ['PATH']}"
            subprocess.run(
                ["sh", "-ec", finding["advice"]], input=typed, text=True, check=True, capture_output=True, timeout=300,
                env={**os.environ, "PATH": path},
            )  # fmt: skip
            return
        with psycopg.connect(self.dsn, autocommit=True) as session:
            for statement in finding["advice"].removesuffix(";").split("; "):
                session.execute(statement)
