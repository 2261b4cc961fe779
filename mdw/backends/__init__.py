"""How a network is computed."""
