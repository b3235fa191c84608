"""`python -m dmask`: a small language model with dynamic masks, trained on real text and checked.

`model` shows how a model uses dmask; `text`, `training` and `report` train it and show its masks.
`import dmask` does not import them.
"""
