"""Values that no record should have, for tests that damage files at random."""

JUNK = [None, True, -1, 0, 2, 10**18, 10**400, 1e308, 1e-320, -0.5, "", "x", "\0", "\ud800", [], [1], {}, {"a": {"b": []}}]
