"""The demo: sends sample claims of the CMS through the HTTP API."""
