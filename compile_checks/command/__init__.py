"""The parts of `python -m compile_checks`: arguments, configuration, targets, plan and runner."""
