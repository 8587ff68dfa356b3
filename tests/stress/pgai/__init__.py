"""Moving in from pgai."""
