"""What Flask's own introduction shows: one route, a small answer in JSON."""

from __future__ import annotations

from flask import Flask

app = Flask(__name__)


@app.get("/item/<int:number>")
def item(number: int) -> dict[str, object]:
    return {"number": number, "name": "a thing"}
