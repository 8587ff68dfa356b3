"""The user's table: what it looks like, and how its rows are read."""
