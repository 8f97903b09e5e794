"""The worker in JavaScript: whether it and ours believe the same, and what it does with a real daemon."""
