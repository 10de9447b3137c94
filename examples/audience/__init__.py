"""A made-up audience for a moard that runs."""
