"""Text vectors of contents. Only ``doc2vec`` and ``gensim_file`` import gensim."""
