"""The shop's arithmetic: products, and quotes priced to the cent. It knows no web framework."""

from __future__ import annotations

import json
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

_CENT = Decimal("0.01")
_BULK_FROM = 10
_BULK_FACTOR = Decimal("0.95")
_MOST_LINES = 100


class BadQuote(ValueError):
    """The wish cannot be priced; the message says which part of it is wrong."""


@dataclass(frozen=True, slots=True)
class Product:
    """One thing on sale."""

    number: int
    name: str
    price: Decimal
    stock: int

    def as_json(self) -> dict[str, Any]:
        """The product as the API shows it."""
        return {
            "id": self.number,
            "name": self.name,
            "price": str(self.price),
            "stock": self.stock,
        }


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Everything on sale, and the tax on it."""

    currency: str
    vat_percent: Decimal
    products: dict[int, Product]

    @classmethod
    def read(cls, path: Path) -> Catalogue:
        """Read a catalogue from a JSON file."""
        data = json.loads(path.read_text())
        products = [
            Product(row["id"], row["name"], Decimal(row["price"]), row["stock"])
            for row in data["products"]
        ]
        return cls(
            currency=data["currency"],
            vat_percent=Decimal(data["vat_percent"]),
            products={product.number: product for product in products},
        )

    def quote(self, wish: Any) -> dict[str, Any]:
        """Price `{"lines": [{"product": int, "quantity": int}, ...]}`; raises BadQuote."""
        net = Decimal(0)
        lines = []
        for position, (product, quantity) in enumerate(self._read_lines(wish), 1):
            factor = _BULK_FACTOR if quantity >= _BULK_FROM else Decimal(1)
            amount = _to_cents(product.price * quantity * factor)
            net += amount
            lines.append(
                {
                    "position": position,
                    "name": product.name,
                    "quantity": quantity,
                    "amount": str(amount),
                    "in_stock": quantity <= product.stock,
                }
            )
        vat = _to_cents(net * self.vat_percent / 100)
        return {
            "lines": lines,
            "net": str(net),
            "vat": str(vat),
            "total": str(net + vat),
            "currency": self.currency,
        }

    def _read_lines(self, wish: Any) -> list[tuple[Product, int]]:
        rows = wish.get("lines") if isinstance(wish, dict) else None
        if not isinstance(rows, list) or not 1 <= len(rows) <= _MOST_LINES:
            raise BadQuote(f"'lines' must be a list of 1 to {_MOST_LINES} lines")
        return [self._read_line(position, row) for position, row in enumerate(rows, 1)]

    def _read_line(self, position: int, row: Any) -> tuple[Product, int]:
        if not isinstance(row, dict):
            raise BadQuote(f"line {position}: must be an object")
        quantity = row.get("quantity")
        if type(quantity) is not int or not 1 <= quantity <= 10_000:
            raise BadQuote(f"line {position}: 'quantity' must be a whole number from 1 to 10000")
        number = row.get("product")
        product = self.products.get(number) if type(number) is int else None
        if product is None:
            raise BadQuote(f"line {position}: there is no product {number!r}")
        return product, quantity


def _to_cents(amount: Decimal) -> Decimal:
    return amount.quantize(_CENT, ROUND_HALF_UP)
