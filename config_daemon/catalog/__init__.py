"""WHAT A CONFIG MAY BE: shipped Pydantic models and dropped-in JSON Schema files behind one interface.

Law: importing this package, or `definition` and `catalog` in it, imports neither Pydantic nor
jsonschema-rs; both come in when a service is asked for that needs them.
"""
