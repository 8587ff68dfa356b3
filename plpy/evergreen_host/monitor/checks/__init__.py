"""The checks of `evergreen doctor`, by what they look at; each yields findings."""
