"""What all sessions share about an endpoint, a model, a pipeline's day."""
