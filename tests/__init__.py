"""The tests: `tests/fixtures` is what they stand on."""
