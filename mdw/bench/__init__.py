"""Measures how fast networks train and predict."""
