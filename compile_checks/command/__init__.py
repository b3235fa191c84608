"""What `python -m compile_checks` is made of: arguments, targets, the plan and its running."""
