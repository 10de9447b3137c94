"""The learning maths: pure functions and arrays, no I/O, no clock, no settings.

Axis letters, the same in every annotation:

====== =====================================
``B``  rows of a batch
``K``  candidates of a request
``N``  positions of a slate
``H``  history, the recently consumed contents
``M``  contents known to the action space
``D``  content text vector
``E``  learned id vector
``X``  context
``F``  hidden features of the network
====== =====================================

Importing this package, or its numpy modules, does not import torch.
"""
