"""From a plan to records: what is run, in which order, by whom, and what survives a kill."""
