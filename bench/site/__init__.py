"""A static site from the records of many runs: leaderboards, and pages of methods and datasets."""
