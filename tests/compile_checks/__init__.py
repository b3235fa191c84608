"""Tests of the graph-break audit: one file per topic, audited code in `samples`."""
