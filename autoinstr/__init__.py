"""autoinstr: HTTP traffic of running processes as OpenTelemetry spans and RED metrics, without touching them."""

__version__ = "0.1.0"
