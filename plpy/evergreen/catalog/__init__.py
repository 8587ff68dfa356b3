"""The catalog: pipelines, models, options, and what the source looks like."""
