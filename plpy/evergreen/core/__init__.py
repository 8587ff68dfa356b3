"""Nouns that the packages hand to each other; imports nothing of ours."""
