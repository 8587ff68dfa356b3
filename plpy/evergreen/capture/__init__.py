"""Changes of a source to the change log."""
