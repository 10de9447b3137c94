"""The console at ``/ui``: how everything is, for people without Grafana."""
