"""What faults are made with: servers that can be killed and stopped, a proxy, a network of its own, a small disk."""
