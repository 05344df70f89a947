"""The agent's pop beside another program's page: a small page for an iframe, which tells the page
around it what happens, and dials for it (`docs/embedding.md`).

It can be shown by the sites of the settings alone, and talks to no others; for everything else the
browser keeps the two apart. Whoever looks at it logs in there: the site never has the token.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import FileResponse
from pydantic import BaseModel, ConfigDict

_PAGE = Path(__file__).parent / "desktop"


class EmbedAnswer(BaseModel):
    """The sites that may show the pop, as a browser names their origins."""

    model_config = ConfigDict(extra="forbid")

    origins: list[str]


def router(origins: Sequence[str], policy: str) -> APIRouter:
    """/embed and /api/embed. `policy` is what holds for our other pages, which nobody may frame."""
    routes = APIRouter()
    ancestors = " ".join(origins) or "'none'"
    framed = re.sub(r"frame-ancestors [^;]*", f"frame-ancestors {ancestors}", policy)

    @routes.get("/api/embed")
    async def sites() -> EmbedAnswer:
        """The sites that may show the pop beside their own pages."""
        return EmbedAnswer(origins=list(origins))

    @routes.get("/embed", include_in_schema=False)
    async def page() -> FileResponse:
        headers = {"Content-Security-Policy": framed}
        return FileResponse(_PAGE / "embed.html", media_type="text/html", headers=headers)

    return routes
