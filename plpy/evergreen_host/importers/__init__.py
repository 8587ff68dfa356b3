"""Imports embeddings of other extensions, so they need not be computed again."""
