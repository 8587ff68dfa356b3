"""Where texts may be sent: which URLs an endpoint may have, and which addresses are never connected to."""

import ipaddress
import queue
import re
import socket
import threading
from urllib.parse import SplitResult, urlsplit

from evergreen.core.errors import ConfigurationError, RetryableError, UserError

IP = ipaddress.IPv4Address | ipaddress.IPv6Address
SocketAddress = tuple[socket.AddressFamily, tuple[str, int] | tuple[str, int, int, int]]
_BLANK = re.compile(r"[\s\x00-\x1f\x7f]")
# Not link-local, and yet where clouds answer a machine's questions about its own credentials: AWS (two), Google,
# Alibaba, Oracle, Azure.
_METADATA = frozenset(
    ipaddress.ip_address(address)
    for address in (
        *("fd00:ec2::254", "fd00:ec2::23", "fd20:ce::254"),
        *("100.100.100.200", "192.0.0.192", "168.63.129.16"),
    )
)
_THIS_NETWORK = ipaddress.IPv4Network("0.0.0.0/8")
_BROADCAST = ipaddress.IPv4Address("255.255.255.255")
# The last 32 bits are an IPv4 address: compatible (RFC 4291), translated (RFC 2765), NAT64 (RFC 6052, RFC 8215).
_IPV4_LAST = tuple(ipaddress.IPv6Network(n) for n in ("::/96", "::ffff:0:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48"))
_ISATAP = (0x00005EFE, 0x02005EFE)  # bits 64 to 95 of an address whose last 32 bits are IPv4 (RFC 5214)


def check_url(url: str, *, allow_http: bool) -> None:
    """Raise UserError unless the URL is one that texts may be sent to."""
    parts = _split(url)
    if parts.scheme == "http" and not allow_http and not _is_loopback_name(parts.hostname or ""):
        raise UserError(
            f'"{parts.scheme}://{parts.netloc}{parts.path}" would send texts unencrypted',
            hint="Use https, or options => '{\"allow_http\": true}' inside a network that you trust.",
        )


def is_proxy(url: str) -> bool:
    """Return whether it is the URL of an HTTP proxy: scheme http, a host, perhaps a port, and nothing else."""
    try:
        parts = _split(url)
    except UserError:
        return False
    return parts.scheme == "http" and parts.path in {"", "/"}


def _split(url: str) -> SplitResult:
    """Take a URL apart; one that is refused may hold a key, so it is not repeated."""
    try:
        parts = urlsplit(url)
        named = bool(parts.hostname) and parts.port != 0
    except ValueError:
        named, parts = False, urlsplit("")
    extra = "@" in parts.netloc or parts.query or parts.fragment
    if not named or extra or parts.scheme not in {"http", "https"} or _BLANK.search(url):
        raise UserError(
            "url is not the URL of an endpoint: scheme, host and path, and nothing else",
            hint="For example 'https://models.example.com/v1'; a key is passed as the name of a secret.",
        )
    return parts


def _is_loopback_name(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def refused(address: str) -> bool:
    """Return whether it is an address of cloud metadata, where no model is: link-local, multicast, unspecified."""
    return any(_is_refused(ip) for ip in _readings(address))


def is_loopback(address: str) -> bool:
    """Return whether it is an address of this machine, in any form."""
    return any(ip.is_loopback for ip in _readings(address))


def _is_refused(ip: IP) -> bool:
    local = ip.is_link_local or ip.is_multicast or ip.is_unspecified
    return local or ip in _METADATA or (ip.version == 4 and (ip in _THIS_NETWORK or ip == _BROADCAST))  # noqa: PLR2004


def _readings(address: str) -> list[IP]:
    """Return an address and every IPv4 address that it stands for on its way."""
    ip = ipaddress.ip_address(address.split("%", 1)[0])
    if isinstance(ip, ipaddress.IPv4Address) or ip.is_loopback:
        return [ip]
    inside = [ip.ipv4_mapped, ip.sixtofour, *(ip.teredo or ())]
    last = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    if any(ip in network for network in _IPV4_LAST) or (int(ip) >> 32) & 0xFFFFFFFF in _ISATAP:
        inside.append(last)
    return [ip, *(found for found in inside if found is not None)]


def check_literal(host: str) -> None:
    """Raise ConfigurationError for a host that is a refused address itself, in any spelling the resolver takes."""
    try:
        address = socket.inet_ntoa(socket.inet_aton(host))  # 2852039166, 0xa9fea9fe and 169.254.43518 too
    except OSError:
        address = host
    try:
        found = refused(address)
    except ValueError:
        return  # a name: what it resolves to is checked where it is resolved
    if found:
        raise _refusal(host)


def _refusal(address: str) -> ConfigurationError:
    return ConfigurationError(f"refused to talk to {address}: a link-local, metadata or multicast address")


def resolve(host: str, port: int, timeout: float, *, loopback_only: bool) -> list[SocketAddress]:
    """Return where a host may be connected to; raises RetryableError, or ConfigurationError where it must not be."""
    found = _looked_up(host, port, timeout)
    allowed = [address for address in found if not refused(address[1][0])]
    if not allowed:
        raise _refusal(found[0][1][0])
    if loopback_only:
        allowed = [address for address in allowed if is_loopback(address[1][0])]
    if not allowed:
        raise ConfigurationError(f"refused to send texts unencrypted to {host}: it is not on this machine")
    return allowed


def _looked_up(host: str, port: int, timeout: float) -> list[SocketAddress]:
    """Ask the resolver, which takes no time-out of its own, in a thread that may outlast the question."""
    answers: queue.SimpleQueue[list[SocketAddress] | OSError | UnicodeError] = queue.SimpleQueue()

    def look_up() -> None:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            answers.put([(family, address) for family, _, _, _, address in found])  # pyright: ignore[reportArgumentType]
        except (OSError, UnicodeError) as error:
            answers.put(error)

    threading.Thread(target=look_up, daemon=True).start()
    try:
        answer = answers.get(timeout=timeout)
    except queue.Empty:
        raise RetryableError(f"{host} could not be looked up within {timeout:g} s") from None
    if isinstance(answer, list) and answer:
        return answer
    raise RetryableError(f"{host} could not be looked up") from None
