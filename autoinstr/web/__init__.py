"""web: what the store keeps, as a JSON API and as the page that shows it."""

from autoinstr.web.api import Api
from autoinstr.web.server import WebServer

__all__ = ["Api", "WebServer"]
