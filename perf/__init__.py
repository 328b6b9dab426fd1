"""Measure what the method costs: operations, memory, and time beside the machine's own limit."""
