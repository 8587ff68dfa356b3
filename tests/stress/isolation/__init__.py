"""Isolation of pipelines, models and endpoints that have nothing to do with each other."""
