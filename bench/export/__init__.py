"""Records in the formats of others: model cards, result collections and experiment trackers."""
