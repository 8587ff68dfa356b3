"""Capture from the WAL, by logical decoding."""
