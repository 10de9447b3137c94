"""Text vectors of contents. ``doc2vec`` is the only module that imports gensim."""
