"""Claims: create, list, read, decide, assign, import and export."""

from app.resources.claims.routes import handlers

__all__ = ["handlers"]
