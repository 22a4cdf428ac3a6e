"""Where accuracy is lost, what a network costs, and what becomes of its nodes."""
