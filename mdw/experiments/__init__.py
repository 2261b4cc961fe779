"""Studies of many runs: tables as lists of rows, the runs they need, estimates of time, execution."""
