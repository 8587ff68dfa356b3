"""The tests.

`unit` needs no server; `integration` mirrors the packages, with `security` and `host`; `scenarios` are whole stories;
`stress` is long, `bench` measures; `packaging` installs what is shipped; `docs` follows the pages.
`fixtures` is what they share.
"""
