"""The edge: receive, verify, keep, apply, report. Needs nothing but the base installation."""
