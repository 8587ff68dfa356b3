"""The fixed texts by which a model is recognized: of different kinds and lengths, each well below any model's limit."""

_PROSE = (
    "The lighthouse keeper wrote down the weather every evening: wind from the north-west, light rain, visibility of"
    " four miles. On clear nights he could see the lamps of the fishing boats, and counted them until they had all come"
    " home."
)
_CODE = (
    "SELECT o.id, sum(i.quantity * i.price) FROM orders o JOIN items i ON i.order_id = o.id GROUP BY o.id"
    " HAVING count(*) > 3;"
)
#: Their vectors are stored as references, so a text must never change.
TEXTS: tuple[str, ...] = (
    "freshness",
    "Where can I change the delivery address of an order that has been paid for already?",
    _PROSE,
    _CODE,
    "Die Rechnung vom 3. März wurde doppelt bezahlt. ¿Pueden devolver el importe? 注文はまだ届いていません。",
    "E-4711 3.14159 2026-01-31T23:59:59Z 192.0.2.17 ISO 9001 +49 30 901820 12,50 €",
)
#: By these keys the texts travel; hashes of rows' texts are longer.
KEYS = tuple(b"watch %d" % number for number in range(len(TEXTS)))
