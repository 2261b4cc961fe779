"""Utilities for all rooms: errors, files, signals, typed values."""
