"""From the change log to claims."""
