"""A backend's calls in Python, Java and Node: each program runs as it stands."""
