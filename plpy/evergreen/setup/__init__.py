"""Set up: create, alter and drop pipelines and models."""
