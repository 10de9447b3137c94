"""Grafana: dashboards described in Python, committed as the JSON that Grafana reads."""
