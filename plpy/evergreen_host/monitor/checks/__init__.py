"""The checks of `evergreen doctor`, by subject; each yields findings."""
