"""What is known of a model and its endpoint: plain data, importable anywhere."""

import json
from dataclasses import dataclass, field
from typing import Any

TOTAL_TIMEOUT = 60.0  # seconds
READ_TIMEOUT = 30.0
_LONG = 600.0  # for what runs in this process


@dataclass(frozen=True)
class Endpoint:
    """Where a model is served. ``secret`` is the name of a secret."""

    name: str
    url: str
    secret: str | None
    options: dict[str, Any] = field(default_factory=dict[str, Any])
    id: int = 0


@dataclass(frozen=True)
class Model:
    """A row of embed.model."""

    id: int
    name: str
    provider: str
    remote_name: str | None
    dimensions: int
    options: dict[str, Any]
    endpoint: Endpoint | None

    @property
    def price(self) -> float | None:
        """What a token costs, in whatever currency the option ``price`` (of a million tokens) is; None if not known."""
        price = self.options.get("price")
        return float(price) / 1e6 if price is not None else None

    @property
    def total_timeout(self) -> float:
        """Seconds after which a request is cut."""
        return float(self.endpoint.options.get("total_timeout", TOTAL_TIMEOUT)) if self.endpoint is not None else _LONG

    @property
    def answer_timeout(self) -> float:
        """Seconds within which a server that computes must begin to answer."""
        options = self.endpoint.options if self.endpoint is not None else {}
        return min(float(options.get("read_timeout", READ_TIMEOUT)), self.total_timeout)

    @property
    def identity(self) -> str:
        """What makes a vector of this model comparable with another: part of every fingerprint and chunk hash."""
        names = (self.provider, self.remote_name or self.name, str(self.dimensions))
        shaping = {k: self.options[k] for k in ("document_prompt", "query_prompt") if k in self.options}
        return json.dumps([*names, shaping], sort_keys=True, ensure_ascii=True)
