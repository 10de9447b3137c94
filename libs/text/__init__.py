"""Text vectors of contents. The only place that imports gensim."""
