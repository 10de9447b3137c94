"""The whole loop in one process on the in-memory twins: no server, no download, about ten seconds."""
