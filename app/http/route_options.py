"""What a route says about itself beyond its signature."""

from litestar.handlers import BaseRouteHandler

RESOURCES = "app.resources."


def resource_of(handler: BaseRouteHandler) -> str:
    """The resource that a handler belongs to, named as its module in app/resources; else the module's own name."""
    module = handler.fn.__module__
    return module.removeprefix(RESOURCES).split(".")[0] if module.startswith(RESOURCES) else module.rpartition(".")[2]
