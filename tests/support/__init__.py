"""Shared by tests and benchmarks: the oracle, the inlined path, generated calls, fixed scores."""
