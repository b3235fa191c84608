"""`python -m dmask`: a small language model on dynamic masks, trained on real text and checked.

`model` is the example of how a model uses dmask; `text`, `training` and `report` are what it takes
to train it and to look at its masks. `import dmask` imports none of them.
"""
