"""The rows of the fault matrix, a module each."""
