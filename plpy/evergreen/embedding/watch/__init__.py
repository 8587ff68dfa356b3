"""The watch over models: whether what is served under a model's name is still the model it was."""
