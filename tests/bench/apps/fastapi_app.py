"""What FastAPI's own introduction shows: one route, a small answer in JSON."""

from __future__ import annotations

from fastapi import FastAPI

app = FastAPI()


@app.get("/item/{number}")
async def item(number: int) -> dict[str, object]:
    return {"number": number, "name": "a thing"}
