"""The chat's doors over HTTP: the widget for websites, a page to try it on, and its WebSocket."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter, WebSocket
from fastapi.responses import FileResponse
from starlette.exceptions import HTTPException

from cti.chatsocket import ChatDoor

_PAGE = Path(__file__).parent / "desktop" / "widget"
_ASSETS = {
    "widget.js": ("widget.js", "text/javascript"),
    "demo.css": ("demo.css", "text/css"),
    "zh": ("demo-zh.html", "text/html"),
}

# Websites load the script from here; all else of ours stays with our own pages.
_ELSEWHERE = {"cross-origin-resource-policy": "cross-origin"}


def router(door: ChatDoor) -> APIRouter:
    """`/api/chat` and what stands under `/chat`."""
    routes = APIRouter()

    @routes.websocket("/api/chat")
    async def chat(socket: WebSocket) -> None:
        await door.serve(socket)

    @routes.get("/chat", include_in_schema=False)
    async def demo() -> FileResponse:
        return FileResponse(_PAGE / "demo.html", media_type="text/html")

    @routes.get("/chat/{name}", include_in_schema=False)
    async def asset(name: str) -> FileResponse:
        if name not in _ASSETS:
            raise HTTPException(404, "there is no such page")
        file, kind = _ASSETS[name]
        return FileResponse(_PAGE / file, media_type=kind, headers=_ELSEWHERE)

    return routes
