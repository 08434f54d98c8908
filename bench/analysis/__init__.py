"""Readers of records: tables, statistics, comparisons. Nothing here needs torch."""
