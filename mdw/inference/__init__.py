"""A trained network at work: data sets measured, people found in images and videos."""
