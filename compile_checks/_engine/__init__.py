"""Compiles and calls code, records what Dynamo does, and turns that into a report.

This package is private: the public names are in `compile_checks`.
"""
