"""One POST to an endpoint."""
