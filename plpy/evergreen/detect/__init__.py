"""Detect: what is generated on a user's table, and how it follows the table."""
