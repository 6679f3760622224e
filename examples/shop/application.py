"""A small shop's JSON API: an ordinary Starlette application that knows nothing of its event loop.

Serve it on PyLoop with uvicorn's own option for choosing a loop:

    uvicorn --app-dir examples shop.application:app --loop data_bridge.pyloop:new_event_loop

    GET  /                 what the shop is, and which loop serves it
    GET  /products/{id}    one product of catalogue.json
    POST /quotes           {"lines": [{"product": 3, "quantity": 12}, ...]} -> the priced quote
    GET  /terms            terms.txt, read from the disk for every request
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from shop.quotes import BadQuote, Catalogue

_HERE = Path(__file__).parent
_catalogue = Catalogue.read(_HERE / "catalogue.json")


async def describe(request: Request) -> Response:
    """Name the shop and the class of the loop that runs this very coroutine."""
    loop = type(asyncio.get_running_loop())
    return JSONResponse(
        {
            "shop": "Paper & Desk",
            "products": len(_catalogue.products),
            "loop": f"{loop.__module__}.{loop.__qualname__}",
        }
    )


async def show_product(request: Request) -> Response:
    """One product, or 404."""
    product = _catalogue.products.get(request.path_params["product"])
    if product is None:
        raise HTTPException(404, "no such product")
    return JSONResponse(product.as_json())


async def make_quote(request: Request) -> Response:
    """Validate the posted lines, price them, answer with the quote; 422 says what is wrong."""
    try:
        wish = json.loads(await request.body())
    except ValueError as error:
        return JSONResponse({"error": f"not JSON: {error}"}, status_code=400)
    try:
        return JSONResponse(_catalogue.quote(wish), status_code=201)
    except BadQuote as error:
        return JSONResponse({"error": str(error)}, status_code=422)


async def show_terms(request: Request) -> Response:
    """The terms of sale, from the disk."""
    return FileResponse(_HERE / "terms.txt", media_type="text/plain")


app = Starlette(
    routes=[
        Route("/", describe),
        Route("/products/{product:int}", show_product),
        Route("/quotes", make_quote, methods=["POST"]),
        Route("/terms", show_terms),
    ]
)
