"""The agent: renders verified configs into files, and has a program take them. Needs the extra `agent`."""
