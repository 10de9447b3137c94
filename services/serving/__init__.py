"""Weights to rankings."""
