"""Operate: prove freshness, explain a row."""
