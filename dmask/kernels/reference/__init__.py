"""The reference implementation, in readable PyTorch, for every device and dtype."""
