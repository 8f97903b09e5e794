"""Programs for those who work on the project; users need none of them."""
