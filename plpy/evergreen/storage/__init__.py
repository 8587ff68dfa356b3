"""Documents, chunks and vectors as they are stored."""
