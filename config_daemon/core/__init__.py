"""What is decided. Pure: no clock, disk, network, thread or log; they come in as arguments."""
