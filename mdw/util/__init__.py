"""What every room may use: errors, files, signals, typed values."""
