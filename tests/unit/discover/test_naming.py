"""Names that a person would choose, by command line: one line a case."""

from __future__ import annotations

import json
import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoinstr.discover.naming import guess_name, name_service, parse_attributes
from autoinstr.discover.process import Process, Stat
from autoinstr.selection import Selector


class Fake(Process):
    """A process that is only told about."""

    def __init__(
        self,
        exe: str,
        command: tuple[str, ...],
        directory: str = "/",
        environment: dict[str, str] | None = None,
        files: dict[str, str] | None = None,
    ) -> None:
        super().__init__(1)
        self.exe = exe
        self.command = command
        self.directory = directory
        self.environment = environment or {}
        self.stat = Stat(0, 0.0, exe.rpartition("/")[2][:15], False)
        self._files = files or {}

    def read_file(self, path: str, limit: int = 0) -> bytes:
        return self._files.get(path, "").encode()


PYTHON = "/usr/bin/python3.11"
NODE = "/usr/bin/node"
JAVA = "/usr/lib/jvm/java-17/bin/java"


@pytest.mark.parametrize(
    ("exe", "line", "directory", "name", "source"),
    [
        # Python: scripts
        (PYTHON, "python3 /srv/shop/api.py --port 1", "/", "api", "script"),
        (PYTHON, "python3 -u -W ignore -X dev shop.py", "/srv", "shop", "script"),
        (PYTHON, "python3 app.py", "/srv/shop", "shop", "script directory"),
        (PYTHON, "python manage.py runserver", "/home/ann/store/src", "store", "script directory"),
        (PYTHON, "python /app/server.py", "/", "server", "script"),
        (PYTHON, "python /srv/../opt/cart/main.py", "/", "cart", "script directory"),
        (PYTHON, "/usr/bin/python3 /usr/local/bin/shop-api", "/", "shop-api", "script"),
        (PYTHON, "python3 /srv/shop/__main__.py", "/", "shop", "script directory"),
        # Python: modules
        (PYTHON, "python3 -m http.server 8000", "/", "http.server", "module"),
        (PYTHON, "python3 -m shop.main", "/", "shop", "module"),
        (PYTHON, "python3 -um shop", "/", "shop", "module"),
        (PYTHON, "python3 -mshop", "/", "shop", "module"),
        (PYTHON, "python3 -m app", "/srv/shop", "shop", "module directory"),
        (PYTHON, "python3 -c 'import x'", "/srv/shop", "python3.11", "executable"),
        (PYTHON, "python3", "/srv/shop", "python3.11", "executable"),
        # Python: servers and launchers
        (PYTHON, "python3 /venv/bin/uvicorn shop.main:app --port 80", "/", "shop", "uvicorn"),
        (PYTHON, "python3 /venv/bin/uvicorn --port 80 --reload main:app", "/srv/cart", "cart", "uvicorn directory"),
        (PYTHON, "python3 -m uvicorn shop.api:create_app --factory", "/", "shop.api", "uvicorn"),
        (PYTHON, "python3 -m uvicorn --app-dir /srv/cart/src main:app", "/", "cart", "uvicorn directory"),
        (PYTHON, "python3 /venv/bin/granian --no-ws --working-dir cart main:app", "/srv", "cart", "granian directory"),
        (PYTHON, "python3 /venv/bin/granian --working-dir=/srv/cart shop.main:app", "/", "shop", "granian"),
        (PYTHON, "python3 /venv/bin/gunicorn -w 4 -b :80 shop.wsgi:application", "/", "shop", "gunicorn"),
        (PYTHON, "python3 /venv/bin/gunicorn -w4 -k gthread shop:app", "/", "shop", "gunicorn"),
        (PYTHON, "python3 /venv/bin/gunicorn --name till shop:app", "/", "till", "gunicorn"),
        (PYTHON, "python3 /venv/bin/gunicorn 'shop.web:make(1)'", "/", "shop.web", "gunicorn"),
        ("/usr/bin/uwsgi-core", "uwsgi --http :80 --processes 2 --module shop.wsgi:app", "/", "shop", "uwsgi"),
        ("/venv/bin/uwsgi", "uwsgi --http=:80 -w wsgi:app", "/srv/shop", "shop", "uwsgi directory"),
        ("/venv/bin/uwsgi", "uwsgi --wsgi-file /srv/till.py", "/", "till", "uwsgi"),
        ("/usr/bin/uwsgi-core", "uwsgi --ini /usr/share/default.ini --ini /etc/apps/shop.ini", "/", "shop", "uwsgi"),
        ("/venv/bin/uwsgi", "uwsgi uwsgi.ini", "/srv/shop", "shop", "uwsgi directory"),
        ("/venv/bin/uwsgi", "uwsgi --yaml=/srv/shop/app.yaml", "/", "shop", "uwsgi directory"),
        ("/venv/bin/uwsgi", "uwsgi --http :80", "/srv/shop", "uwsgi", "executable"),
        (PYTHON, "python3 -m flask --app shop run", "/", "shop", "flask"),
        (PYTHON, "python3 /venv/bin/flask run", "/srv/shop", "shop", "flask directory"),
        (PYTHON, "python3 /venv/bin/celery -A shop.tasks worker", "/", "shop.tasks", "celery"),
        (PYTHON, "python3 /venv/bin/fastapi run shop/main.py", "/srv", "shop", "fastapi directory"),
        (PYTHON, "python3 /venv/bin/daphne -p 80 shop.asgi:application", "/", "shop", "daphne"),
        # Node
        (NODE, "node --require ./x.js /srv/shop/index.js", "/", "shop", "script directory"),
        (NODE, "node --max-old-space-size=4096 till.js", "/srv/shop", "till", "script"),
        (NODE, "node", "/srv/shop", "node", "executable"),
        # Java
        (JAVA, "java -Xmx1g -jar /opt/shop-1.2.3-SNAPSHOT.jar --x", "/", "shop", "jar"),
        (JAVA, "java -jar shop-api-2.0.jar", "/", "shop-api", "jar"),
        (JAVA, "java -jar shop-1.0-all.jar", "/", "shop", "jar"),
        (JAVA, "java -jar shop.jar", "/", "shop", "jar"),
        (JAVA, "java -jar /srv/cart/app.jar", "/", "cart", "jar directory"),
        (JAVA, "java -Dspring.application.name=till -jar app.jar", "/", "till", "spring.application.name"),
        (JAVA, "java -jar app.jar --spring.application.name=till", "/", "till", "spring.application.name"),
        (JAVA, "java -cp a.jar:b.jar com.acme.shop.ShopApplication x", "/", "ShopApplication", "main class"),
        (JAVA, "java -classpath a com.acme.shop.Main", "/", "shop", "main class"),
        (JAVA, "java -m com.acme/com.acme.Till", "/", "Till", "main class"),
        (JAVA, "java Shop.java", "/", "Shop", "script"),
        (
            JAVA,
            "java -Dcatalina.base=/srv/till org.apache.catalina.startup.Bootstrap start",
            "/",
            "till",
            "directory",
        ),
        (JAVA, "java org.apache.catalina.startup.Bootstrap start", "/", "tomcat", "main class"),
        # the others
        ("/usr/bin/ruby3.1", "ruby -I lib shop.rb", "/", "shop", "script"),
        ("/usr/bin/ruby", "ruby bin/rails server", "/srv/shop", "shop", "directory"),
        ("/usr/bin/php8.2", "php -S 0.0.0.0:80 -t public", "/srv/shop", "shop", "directory"),
        ("/usr/bin/php", "php artisan serve", "/srv/shop", "shop", "directory"),
        ("/usr/bin/perl", "perl /srv/shop.pl", "/", "shop", "script"),
        ("/usr/bin/perl", "perl /usr/bin/plackup shop.psgi", "/", "shop", "script"),
        ("/usr/lib/R/bin/exec/R", "R --no-echo --no-restore --file=prices.R --args 8000", "/", "prices", "script"),
        ("/usr/lib/R/bin/exec/R", "R -e plumber::pr_run(pr('api.R'))", "/srv/prices", "prices", "directory"),
        ("/opt/julia/bin/julia", "julia --project=. -t 4 src/server.jl", "/srv/routes", "routes", "script directory"),
        ("/usr/bin/luajit-2.1.0-beta3", "luajit -lsocket shop.lua", "/", "shop", "script"),
        ("/usr/bin/sbcl", "sbcl --non-interactive --load shop.lisp", "/", "shop", "script"),
        ("/usr/bin/racket", "racket shop.rkt 8080", "/", "shop", "script"),
        ("/usr/bin/tclsh8.6", "tclsh shop.tcl", "/", "shop", "script"),
        ("/usr/bin/R", "R", "/srv", "R", "executable"),
        ("/x/bun.exe", "bun run /srv/shop.js", "/", "shop", "script"),
        (
            "/x/beam.smp",
            "shop -- -root /usr/lib/erlang -- -noshell -run escript start -extra bin/shop 8",
            "/",
            "shop",
            "script",
        ),
        ("/x/beam.smp", "beam.smp -- -root /usr/lib/erlang -- -sname shop@host", "/", "shop", "node name"),
        ("/usr/share/dotnet/dotnet", "dotnet Shop.Api.dll --urls x", "/", "Shop.Api", "assembly"),
        ("/usr/sbin/nginx", "nginx: worker process", "/", "nginx", "executable"),
        ("/usr/sbin/nginx", "nginx: master process nginx -g 'daemon off;'", "/", "nginx", "executable"),
        ("/bin/busybox", "httpd -f -p 80", "/", "httpd", "executable"),
        ("/srv/shop/bin/server", "server", "/", "shop", "executable directory"),
        ("/server", "server", "/", "server", "executable"),
        ("", "/opt/till --x", "/", "till", "executable"),
    ],
)
def test_name_by_command_line(exe: str, line: str, directory: str, name: str, source: str) -> None:
    titled = line.startswith("nginx: ")
    command = (line,) if titled else tuple(shlex.split(line))
    assert guess_name(Fake(exe, command, directory)) == (name, source)


@pytest.mark.parametrize(
    ("exe", "title", "name"),
    [
        (PYTHON, "gunicorn: master [shop.main:app]", "shop"),
        (PYTHON, "gunicorn: worker [till]", "till"),
        (PYTHON, "[celeryd: celery@host:MainProcess] -active- (-A shop.tasks worker)", "shop.tasks"),
        ("/usr/bin/ruby", "puma 6.0 (tcp://0.0.0.0:3000) [shop]", "shop"),
        ("/usr/bin/ruby", "puma: cluster worker 0: 12 [shop]", "shop"),
        ("/usr/bin/ruby", "sidekiq 7.0.1 shop [0 of 5 busy]", "shop"),
        ("/usr/sbin/php-fpm8.2", "php-fpm: pool shop", "shop"),
        ("/usr/sbin/php-fpm8.2", "php-fpm: pool www", "php-fpm8.2"),
        (PYTHON, "my own title", "here"),
    ],
)
def test_name_by_title(exe: str, title: str, name: str) -> None:
    assert guess_name(Fake(exe, (title,), "/srv/here")).name == name


class TestPackageJson:
    def test_nearest_above_the_script(self) -> None:
        files = {"/srv/shop/package.json": json.dumps({"name": "@acme/shop-api"})}
        found = guess_name(Fake(NODE, ("node", "dist/src/index.js"), "/srv/shop", files=files))
        assert found == ("shop-api", "package.json")

    def test_tools_are_not_the_service(self) -> None:
        files = {
            "/srv/shop/package.json": '{"name": "shop"}',
            "/srv/shop/node_modules/next/package.json": '{"name": "next"}',
        }
        for script in ("/srv/shop/node_modules/.bin/next", "/usr/bin/npm", "/usr/lib/node_modules/npm/bin/npm-cli.js"):
            assert guess_name(Fake(NODE, ("node", script, "start"), "/srv/shop", files=files)).name == "shop"

    def test_title_of_next(self) -> None:
        files = {"/srv/shop/package.json": '{"name": "shop"}'}
        assert guess_name(Fake(NODE, ("next-server (v14.2.3)",), "/srv/shop", files=files)).name == "shop"

    @pytest.mark.parametrize("text", ["", "{", "[]", '{"name": 3}', "[" * 100_000, '{"name": "app"}'])
    def test_useless(self, text: str) -> None:
        files = {"/srv/shop/package.json": text}
        assert guess_name(Fake(NODE, ("node", "till.js"), "/srv/shop", files=files)) == ("till", "script")


def test_go_package_for_generic_binaries() -> None:
    assert guess_name(Fake("/app/server", ("/app/server",)), "github.com/acme/shop/cmd/server") == (
        "shop",
        "go package",
    )
    assert guess_name(Fake("/app/server", ("/app/server",)), "github.com/acme/shop/v2").name == "shop"
    assert guess_name(Fake("/app/till", ("/app/till",)), "github.com/acme/shop").name == "till"
    run = Fake("/tmp/go-build1/b001/exe/main", ("/tmp/go-build1/b001/exe/main",), "/srv/shop")
    assert guess_name(run, "command-line-arguments").name == "shop"


class TestOrder:
    selector = Selector("select[0]", exe=("*",), service_name="entry", service_namespace="prod")

    def of(self, environment: dict[str, str], selector: Selector | None = None, **more: str) -> tuple[str, str, str]:
        process = Fake(PYTHON, ("python3", "shop.py"), environment=environment)
        found = name_service(process, selector, **more)
        return found.name, found.source, found.namespace

    def test_own_environment_first(self) -> None:
        environment = {"OTEL_SERVICE_NAME": "own", "OTEL_RESOURCE_ATTRIBUTES": "service.name=b,service.namespace=n"}
        assert self.of(environment, self.selector) == ("own", "OTEL_SERVICE_NAME", "n")

    def test_own_attributes(self) -> None:
        environment = {"OTEL_RESOURCE_ATTRIBUTES": "x,service.name=a%20b"}
        assert self.of(environment, self.selector) == ("a b", "OTEL_RESOURCE_ATTRIBUTES", "prod")

    def test_configuration_entry(self) -> None:
        assert self.of({"OTEL_SERVICE_NAME": ""}, self.selector) == ("entry", "config", "prod")

    def test_guess(self) -> None:
        assert self.of({}) == ("shop", "script", "")

    def test_operator_over_all(self) -> None:
        environment = {"OTEL_SERVICE_NAME": "own"}
        assert self.of(environment, self.selector, override="all") == ("all", "OTEL_SERVICE_NAME of autoinstr", "prod")


def test_attributes() -> None:
    assert parse_attributes("a=1, b = x%3Dy ,,c,=d") == {"a": "1", "b": "x=y"}


@given(
    st.sampled_from([PYTHON, NODE, JAVA, "/usr/bin/ruby", "/usr/bin/php", "/usr/bin/perl", "/x/dotnet", "/x/beam.smp"]),
    st.lists(
        st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)
        | st.sampled_from(
            ["-m", "-jar", "-c", "gunicorn", "uvicorn", "run", "-A", "--name", "..", "/", "flask", "--module", "-"]
        ),
        max_size=6,
    ),
    st.sampled_from(["/", "/srv/shop", "/..", "relative"]),
)
def test_any_command_line_has_a_printable_name(exe: str, arguments: list[str], directory: str) -> None:
    found = name_service(Fake(exe, ("x", *arguments), directory), None)
    assert found.name and found.name.isprintable() and len(found.name) <= 128
