"""Where spans and metrics leave the program: `base.py` has the protocol and the registry of exporters.

An exporter is one module or folder here and one line in `base.EXPORTERS`. Exporters import no other stage: what they
need of others (encoders, a metrics snapshot) the pipeline hands over as callables in a `Context`.
"""
