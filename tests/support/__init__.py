"""What tests and benchmarks share: the oracle, the inlined path, generated calls, fixed scores."""
