"""Datasets on disk: reading, checking, and showing them."""
