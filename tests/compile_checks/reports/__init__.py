"""Public reports of graph breaks and recompiles, each in a few lines of our own."""
