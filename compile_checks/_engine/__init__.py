"""Compiles and calls code, records what Dynamo does, and turns that into a report.

Private: the public names are those of `compile_checks` itself.
"""
