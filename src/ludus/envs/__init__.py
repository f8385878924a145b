"""Games: built-in ones, and one thin adapter for each third-party suite."""
