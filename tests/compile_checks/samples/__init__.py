"""Code for the audit to find fault with."""
