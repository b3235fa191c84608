"""A survey of the models of installed libraries: `python -m compile_checks.survey`.

It builds a tiny random instance of every architecture, audits its forward pass (and what else is
asked for), and prints a table. No weights are downloaded.
"""
