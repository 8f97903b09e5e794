"""Feeds every reader of bytes with inputs that are almost right: only typed refusals may come back, and soon."""
