"""From exchanges to requests: see `parser.py` for the stage, `base.py` for the contract of a protocol."""

from autoinstr.parse.groups import Groups
from autoinstr.parse.parser import Parser
from autoinstr.parse.routes import RouteOptions

__all__ = ["Groups", "Parser", "RouteOptions"]
