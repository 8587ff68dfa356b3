"""Moving in: what other extensions have embedded is taken over instead of being paid for again."""
