"""Commands for operators and administrators of the database."""
