"""What travels: sealing, keys, topics, values, messages, addresses."""
