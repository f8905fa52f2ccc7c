"""Claims: create, list, read, decide, assign, import and export."""

from app.resources.claims import routes, transfer

handlers = [*routes.handlers, *transfer.handlers]
