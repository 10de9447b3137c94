"""MovieLens-100K played through a running moard, request by request, in the order in which it happened."""
