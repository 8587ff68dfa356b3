"""Who runs the stages: workers, drains, external compute."""
