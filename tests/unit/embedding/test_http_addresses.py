"""Where texts may be sent, and where never."""

import pytest

from evergreen.core.errors import UserError
from evergreen.embedding.http.addresses import check_url, refused


@pytest.mark.parametrize(
    "url",
    [
        "https://models.example.com/v1",
        "https://models.example.com:8443",
        "https://10.0.0.1/v1",
        "http://localhost:8080/v1",
        "http://127.0.0.1:8080/v1",
        "http://127.8.8.8/v1",
        "http://[::1]:8080/v1",
    ],
)
def test_https_anywhere_and_http_on_this_machine_are_allowed(url):
    check_url(url, allow_http=False)


@pytest.mark.parametrize(
    "url",
    [
        "http://models.example.com/v1",
        "http://10.0.0.1/v1",
        "http://127.0.0.1.example.com/v1",
        "http://localhost.example.com/v1",
        "http://0.0.0.0/v1",
        "http://[::]/v1",
    ],
)
def test_http_elsewhere_needs_to_be_allowed(url):
    with pytest.raises(UserError) as found:
        check_url(url, allow_http=False)
    assert "allow_http" in found.value.hint
    check_url(url, allow_http=True)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "models.example.com/v1",
        "ftp://models.example.com/v1",
        "file:///etc/passwd",
        "https://",
        "https:///v1",
        "https://user:secret@models.example.com/v1",
        "https://user@models.example.com/v1",
        "https://models.example.com/v1?key=secret",
        "https://models.example.com/v1#part",
        "https://:8080/v1",
        "https://models.example.com:port/v1",
        "https://models.example.com:99999/v1",
        "https://[::1/v1",
        "https://models.example.com/v 1",
        "https://models.example.com/v1\nX-Header: 1",
        " https://models.example.com/v1",
    ],
)
@pytest.mark.parametrize("allow_http", [False, True])
def test_what_is_no_url_of_an_endpoint_is_refused(url, allow_http):
    with pytest.raises(UserError) as found:
        check_url(url, allow_http=allow_http)
    assert found.value.sqlstate == "22023"


@pytest.mark.parametrize(
    "url", ["https://user:hunter2@models.example.com/v1", "https://models.example.com/v1?key=hunter2"]
)
def test_a_key_in_a_url_is_not_repeated(url):
    with pytest.raises(UserError) as found:
        check_url(url, allow_http=True)
    assert "hunter2" not in f"{found.value.message}{found.value.hint}{found.value.detail}"


@pytest.mark.parametrize(
    "address",
    [
        "169.254.169.254",
        "169.254.0.1",
        "fe80::1",
        "fe80::1%eth0",
        "fd00:ec2::254",
        "100.100.100.200",
        "0.0.0.0",
        "::",
        "224.0.0.1",
        "ff02::1",
        "::ffff:169.254.169.254",
        "::ffff:100.100.100.200",
        "::ffff:0.0.0.0",
    ],
)
def test_metadata_and_link_local_addresses_are_refused(address):
    assert refused(address)


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "::1", "10.0.0.1", "192.168.1.1", "93.184.216.34", "2606:2800::1", "fd00::1"]
)
def test_addresses_where_models_are_served_are_not(address):
    assert not refused(address)
