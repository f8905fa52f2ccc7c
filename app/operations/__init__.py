"""Commands for operators and database administrators."""
