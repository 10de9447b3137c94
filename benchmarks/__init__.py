"""What moard does a second, and how well it ranks: ``python -m benchmarks NAME`` (or ``make bench NAME=…``)."""
