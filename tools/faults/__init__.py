"""The fault campaign: real processes, one fault at a time, and a checker that shares no code with the product."""
