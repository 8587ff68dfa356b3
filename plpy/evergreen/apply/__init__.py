"""Apply: reuse vectors, write them, record failures."""
