"""The demo: real claims played through the HTTP API."""
