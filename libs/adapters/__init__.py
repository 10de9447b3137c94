"""Everything that touches the outside world, each port with an in-memory twin."""
