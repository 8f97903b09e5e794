"""Where config lives: the database, the caches beside it, and the locks around them."""
