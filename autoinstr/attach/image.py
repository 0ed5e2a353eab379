"""The compiled kernel side: what its maps are, and its programs' instructions, as the compiler hands them over.

A map's descriptor is not known before it is loaded: `relocations` are the instructions that refer to one, by its name.
"""

from __future__ import annotations

import base64
import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class Map:
    """What BPF_MAP_CREATE needs."""

    name: str
    type: int
    key_size: int
    value_size: int
    max_entries: int
    flags: int


@dataclass(frozen=True, slots=True)
class Program:
    """Instructions, 8 bytes each, and (index of an instruction, name of the map it loads)."""

    name: str
    instructions: bytes
    relocations: tuple[tuple[int, str], ...]


@dataclass(frozen=True, slots=True)
class Image:
    """All maps and programs."""

    maps: tuple[Map, ...]
    programs: tuple[Program, ...]

    def to_json(self) -> str:
        """As text."""
        programs = [
            asdict(program) | {"instructions": base64.b64encode(program.instructions).decode()}
            for program in self.programs
        ]
        return json.dumps({"maps": [asdict(one) for one in self.maps], "programs": programs})

    @classmethod
    def from_json(cls, text: str) -> Image:
        """ValueError, KeyError or TypeError if that is not what `to_json` made."""
        found = json.loads(text)
        return cls(
            maps=tuple(Map(**one) for one in found["maps"]),
            programs=tuple(
                Program(
                    one["name"],
                    base64.b64decode(one["instructions"], validate=True),
                    tuple((int(at), str(name)) for at, name in one["relocations"]),
                )
                for one in found["programs"]
            ),
        )
