"""The host side of Evergreen: what runs in a shell, never inside the server."""
