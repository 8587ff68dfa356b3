"""Create, alter and drop pipelines, models and endpoints."""
