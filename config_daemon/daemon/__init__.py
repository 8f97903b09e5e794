"""The long-running process: one loop, one owner of all state, no listening socket."""
