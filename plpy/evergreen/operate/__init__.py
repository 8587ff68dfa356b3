"""Prove freshness, explain, estimate, forget, retry."""
