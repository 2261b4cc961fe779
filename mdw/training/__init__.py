"""One run: its recipe, its folder, its loop."""
