"""What travels: messages, their seal, their topics. Pure, and shared by both ends."""
