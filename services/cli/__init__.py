"""The moard command."""
