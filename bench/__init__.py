"""Measurements: ratios against plain MQTT in the same run, and the few absolute figures that are promised.

Laws: what is measured is the real daemon process, a real mosquitto and a real subscriber process; a
figure that cannot be trusted is void and says so; a figure that misses is a result and no failure.
"""
