"""Node: the name in package.json inside the process's root, else the script."""

from __future__ import annotations

from autoinstr.discover.naming.common import Named, absolute, by_path, is_generic, skip_options, stem
from autoinstr.discover.process import Process

MAX_PARENTS = 8  # directories above a script in which package.json is looked for

_NODE_WITH_VALUE = ("-r", "--require", "--import", "--loader", "--experimental-loader", "--env-file", "-C", "--title")
_NODE_LAUNCHERS = ("npm", "npx", "yarn", "pnpm", "npm-cli", "npx-cli", "nodemon", "pm2", "tsx", "ts-node", "turbo")


def nodejs(process: Process) -> Named | None:
    """`name` of the nearest package.json above the script, else the script."""
    words = list(skip_options(process.command[1:], _NODE_WITH_VALUE))
    words = words[1:] if words[:1] == ["run"] else words  # bun run, deno run
    script = next((word for word in words if not word.startswith("-")), "")
    if not script:
        return None
    path = absolute(process, script)
    directory, inside, _ = path.partition("/node_modules/")
    if stem(script) in _NODE_LAUNCHERS or inside:
        globally = not inside or directory.endswith("/lib")  # /usr/lib/node_modules/npm/bin/npm-cli.js
        directory = process.directory if globally else directory
    else:
        directory = path.rpartition("/")[0]
    return package(process, directory) or by_path(process, script, "script")


def package(process: Process, directory: str) -> Named | None:
    """By package.json in the directory or above it."""
    for _ in range(MAX_PARENTS):
        if text := process.read_file(f"{directory.rstrip('/')}/package.json"):
            name = _package_name(text)
            return Named(name, "package.json") if name else None
        if directory in ("", "/"):
            return None
        directory = directory.rpartition("/")[0]
    return None


def _package_name(text: bytes) -> str:
    import json  # noqa: PLC0415 - only Node needs it

    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return ""
    name = content.get("name") if isinstance(content, dict) else None
    name = name.rpartition("/")[2] if isinstance(name, str) else ""  # without the scope: @acme/shop
    return "" if is_generic(name) else name
