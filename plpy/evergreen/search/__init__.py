"""Embed a question and search."""
