"""Java: a name property, the jar without its version, or the main class."""

from __future__ import annotations

import re

from autoinstr.discover.naming.common import Named, by_directory, by_path, is_generic, option
from autoinstr.discover.process import Process

_JAVA_OPTIONS = """
-cp -classpath --class-path -p --module-path --upgrade-module-path --add-modules --add-exports --add-opens
--add-reads --patch-module --source --limit-modules --enable-native-access
"""
_JAVA_WITH_VALUE = frozenset(_JAVA_OPTIONS.split())
_JAVA_PROPERTIES = ("otel.service.name", "spring.application.name", "quarkus.application.name", "app.name")
_JAVA_SERVERS = {
    "org.apache.catalina.startup.Bootstrap": "tomcat",
    "org.apache.zookeeper.server.quorum.QuorumPeerMain": "zookeeper",
    "org.elasticsearch.bootstrap.Elasticsearch": "elasticsearch",
    "org.elasticsearch.server.cli.ServerCli": "elasticsearch",
    "kafka.Kafka": "kafka",
    "org.eclipse.jetty.start.Main": "jetty",
    "org.jboss.modules.Main": "wildfly",
}
_VERSION = re.compile(
    r"[-_.]v?\d+(\.\d+)*([-.+_](SNAPSHOT|RELEASE|FINAL|GA|RC\d*|M\d+|\w*\d\w*))*([-_.](all|exec|fat))?\Z", re.I
)
_JAR_KIND = re.compile(r"[-_.](all|exec|fat|runner|jar-with-dependencies|with-dependencies|shaded|boot)\Z", re.I)


def java(process: Process) -> Named | None:
    """A name property, the jar without its version, or the main class."""
    arguments = process.command[1:]
    for name in _JAVA_PROPERTIES:
        for argument in arguments:
            for mark in (f"-D{name}=", f"--{name}="):
                if argument.startswith(mark) and len(argument) > len(mark):
                    return Named(argument[len(mark) :], name)
    if named := process.environment.get("SPRING_APPLICATION_NAME"):
        return Named(named, "SPRING_APPLICATION_NAME")
    words = iter(arguments)
    for word in words:
        if word == "-jar":
            return _jar(process, next(words, ""))
        if word in ("-m", "--module"):
            module, _, main = next(words, "").partition("/")
            return _main_class(process, main or module)
        if word in _JAVA_WITH_VALUE:
            next(words, None)
        elif not word.startswith(("-", "@")):
            return by_path(process, word, "script") if word.endswith(".java") else _main_class(process, word)
    return None


def _jar(process: Process, path: str) -> Named | None:
    own = re.sub(r"\.(jar|war)\Z", "", path.rpartition("/")[2])
    for pattern in (_JAR_KIND, _VERSION, _JAR_KIND):
        own = pattern.sub("", own)
    if own and not is_generic(own):
        return Named(own, "jar")
    return by_path(process, path, "jar") if path else None


def _main_class(process: Process, name: str) -> Named | None:
    if name in _JAVA_SERVERS:
        base = option(process.command, "-Dcatalina.base", "-Djetty.base", "-Djboss.server.base.dir").rstrip("/")
        directory = by_directory(base) if base else ""
        return Named(directory or _JAVA_SERVERS[name], "directory" if directory else "main class")
    parts = [part for part in re.split(r"[.$]", name) if part]
    last = next((part for part in reversed(parts) if not is_generic(part)), "")
    return Named(last, "main class") if last else None
