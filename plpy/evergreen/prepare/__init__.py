"""Prepare: read source rows, render and cut their text."""
