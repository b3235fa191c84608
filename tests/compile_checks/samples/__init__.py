"""Code with and without problems, for the audit to find."""
