"""`evergreen dashboard`: a page for operators: one poller reads the figures, and calls have its role's rights."""
