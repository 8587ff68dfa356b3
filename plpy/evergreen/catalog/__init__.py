"""The rows of the catalog: pipelines, models, options."""
