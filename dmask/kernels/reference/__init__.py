"""What is right, in readable PyTorch, for every device and dtype."""
