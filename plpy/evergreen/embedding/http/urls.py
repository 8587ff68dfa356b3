"""URLs of a protocol below an endpoint's base URL."""

import re
from urllib.parse import urlsplit, urlunsplit

_VERSION = re.compile(r"v[0-9]+\Z")


def joined(base: str, path: str) -> str:
    """Append a protocol's path to a base URL, as far as the base does not end with it already.

    A base that ends with the path's last part is taken as it is; another version at its end gives way to the path's.
    """
    parts = urlsplit(base)
    there = [part for part in parts.path.split("/") if part]
    wanted = path.split("/")
    if there[-1:] != wanted[-1:]:
        if there and _VERSION.match(there[-1]) and _VERSION.match(wanted[0]):
            there.pop()
        overlap = next(n for n in range(len(wanted) - 1, -1, -1) if there[len(there) - n :] == wanted[:n])
        there += wanted[overlap:]
    return urlunsplit((parts.scheme, parts.netloc, "/" + "/".join(there), "", ""))
