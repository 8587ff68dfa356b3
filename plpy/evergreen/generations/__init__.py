"""Build, compare, promote, roll back and retire generations."""
