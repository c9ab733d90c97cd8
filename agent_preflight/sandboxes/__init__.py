"""What a sandbox is, agents as plain processes, and the output that they leave."""
