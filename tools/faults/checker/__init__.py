"""The campaign's judge: a process of its own with its own subscriber, verifier and readers.

Laws: nothing in this folder imports the product; what it believes of the wire comes from docs/protocol.md alone.
"""
