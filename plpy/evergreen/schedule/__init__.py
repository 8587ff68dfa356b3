"""Schedule: intake, claims, the drain and the worker."""
