"""Rows to chunks."""
