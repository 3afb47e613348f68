"""The edge to the Ray heads: it asks and tells, and decides nothing."""
