"""Many runs: tables as lists of rows, what is missing, who trains it."""
