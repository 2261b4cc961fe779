"""How fast networks train and answer."""
