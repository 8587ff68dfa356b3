"""A factory for OpenAI-compatible servers; URL and key come from the environment of each process."""

import base64
import json
import os
import struct
import urllib.request
from typing import Any

from evergreen_host.compute.embedder import Embed, Embedded

URL, KEY, NAME = "EVERGREEN_EMBED_URL", "EVERGREEN_EMBED_KEY", "EVERGREEN_EMBED_MODEL"
_TIMEOUT = 120.0


def factory(model: str) -> Embed:
    """Return a function that calls the server; raises LookupError if no URL is set.

    Secrets of the database's endpoints never leave the database, so the key comes from the environment.
    """
    url = os.environ.get(URL)
    if not url or not url.startswith(("http://", "https://")):
        raise LookupError(
            f"{URL} is not set; set it in every process, for example: export {URL}=http://localhost:8080/v1"
        )
    name = os.environ.get(NAME, model)
    headers = {"Content-Type": "application/json"}
    if key := os.environ.get(KEY):
        headers["Authorization"] = f"Bearer {key}"

    def embed(texts: list[str]) -> Embedded:
        body = json.dumps({"model": name, "input": texts, "encoding_format": "base64"}).encode()
        request = urllib.request.Request(url.rstrip("/") + "/embeddings", body, headers)  # noqa: S310 - see above
        with urllib.request.urlopen(request, timeout=_TIMEOUT) as response:  # noqa: S310
            answer = json.load(response)
        items = sorted(answer["data"], key=lambda item: item["index"])
        return Embedded([_decode(item["embedding"]) for item in items], answer.get("usage", {}).get("total_tokens"))

    return embed


def _decode(item: Any) -> Any:
    if not isinstance(item, str):
        return item
    raw = base64.b64decode(item)
    return struct.unpack(f"<{len(raw) // 4}f", raw)
