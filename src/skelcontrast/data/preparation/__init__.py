"""From a raw data set to a prepared folder: listing, protocols, the work itself, its report, and opening it."""
