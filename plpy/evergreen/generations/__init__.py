"""Change the model, the template or the chunker: another generation is built, compared, promoted, and retired."""
