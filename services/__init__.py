"""moard's services: ingest, learner, serving, and the command line."""
