"""Ask: embed a question and search."""
