"""History through batch APIs: the lane, against the loopback servers of the formats."""
