"""How a session of ours is set up, whatever the database or the role sets for others."""

import json
from collections.abc import Mapping
from typing import Any

import psycopg

# With SQL_ASCII, which a database may set, psycopg gives bytes for text.
OPTIONS: Mapping[str, Any] = {"autocommit": True, "client_encoding": "UTF8"}
SETTINGS: Mapping[str, str] = {
    "statement_timeout": "0", "transaction_timeout": "0", "idle_session_timeout": "0",
    "idle_in_transaction_session_timeout": "0", "default_transaction_read_only": "off",
    "default_transaction_isolation": "read committed", "default_transaction_deferrable": "off",
}  # fmt: skip
_SET = """
SELECT pg_catalog.set_config(s.name, w.value, false)
FROM pg_catalog.pg_settings s JOIN pg_catalog.jsonb_each_text(%s::pg_catalog.jsonb) w (name, value)
  ON s.name OPERATOR(pg_catalog.=) w.name
"""


def settle(connection: psycopg.Connection[Any], **more: str) -> None:
    """Set what a session of ours needs, where this server has the setting."""
    connection.execute(_SET, (json.dumps({**SETTINGS, **more}),))
