"""Models that change: noticed, stopped, rebuilt."""
