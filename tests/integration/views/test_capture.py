"""Changes of each table under a view reach exactly the rows that they change."""

import pytest

from tests.fixtures.pipelines.freshness import drain, verify
from tests.integration.views.conftest import stored, wanted

pytestmark = pytest.mark.shared_database


@pytest.mark.few(4)
@pytest.mark.parametrize(
    ("change", "sent"),
    [
        ("UPDATE product SET name = 'stool' WHERE id = 1", 1),
        ("UPDATE product SET price = 11 WHERE id = 1", 0),
        ("UPDATE brand SET name = 'Apex' WHERE id = 1", 2),
        ("UPDATE brand SET notes = 'none of ours' WHERE id = 1", 0),
        ("UPDATE brand SET country = 'fr' WHERE id = 1", 2),
        ("UPDATE country SET name = 'Gaul' WHERE code = 'fr'", 1),
        ("UPDATE tag SET name = 'brand-new' WHERE id = 3", 2),
        ("INSERT INTO product_tag VALUES (2, 1)", 1),
        ("DELETE FROM product_tag WHERE product_id = 1", 1),
        ("UPDATE product_tag SET product_id = 4 WHERE product_id = 3", 2),
        ("UPDATE product SET brand_id = 2 WHERE id = 1", 1),
        ("INSERT INTO product VALUES (5, 'bench', 2, 1)", 1),
        ("DELETE FROM product WHERE id = 1", 0),
        ("UPDATE product SET id = 9 WHERE id = 4", 0),
        ("TRUNCATE product_tag", 3),
    ],
)
def test_a_change_sends_the_texts_it_changes(products, provider, change, sent):
    products.execute(change)
    drain(products)
    assert stored(products) == wanted(products)
    assert len(provider.sent) == sent
    assert verify(products, "products")["fresh"] == len(wanted(products))
