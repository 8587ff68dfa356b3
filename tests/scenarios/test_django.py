"""Django as ordinary SQL: the test database, migrations and tests of a project."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from tests.fixtures.pipelines.documents import drain_all

FILES = {
    "settings.py": """
        import os
        SECRET_KEY = "of a test"
        INSTALLED_APPS = ["shop"]
        DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
        USE_TZ = True
        DATABASES = {"default": {
            "ENGINE": "django.db.backends.postgresql", "NAME": os.environ["NAME"], "USER": os.environ["USER"],
            "HOST": os.environ["HOST"], "PORT": os.environ["PORT"], "TEST": {"NAME": os.environ["NAME"] + "_test"},
        }}
    """,
    "shop/__init__.py": "",
    "shop/migrations/__init__.py": "",
    "shop/models.py": """
        from django.db import models

        class Product(models.Model):
            name = models.TextField()
            blurb = models.TextField()

        class Embedding(models.Model):
            product = models.OneToOneField(Product, models.DO_NOTHING, db_column="id", primary_key=True)
            chunk = models.TextField()
            is_stale = models.BooleanField()

            class Meta:
                managed = False
                db_table = "products_embedding"
    """,
    # What docs/how-to/clients.md gives as a recipe for one's own continuous integration.
    "shop/migrations/0001_initial.py": """
        from django.db import migrations, models

        CREATE = '''
            CREATE EXTENSION IF NOT EXISTS evergreen CASCADE;
            SELECT embed_model_add('for tests', 'hash', 8)
                WHERE NOT EXISTS (SELECT FROM embed_models WHERE model = 'for tests');
            SELECT embed_create('products', 'shop_product', columns => '{name,description}', model => 'for tests');
        '''

        class Migration(migrations.Migration):
            initial = True
            dependencies = []
            operations = [
                migrations.CreateModel("Product", [
                    ("id", models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                    ("name", models.TextField()),
                    ("description", models.TextField()),
                ]),
                migrations.CreateModel("Embedding", [
                    ("product", models.OneToOneField(
                        "shop.Product", models.DO_NOTHING, db_column="id", primary_key=True)),
                    ("chunk", models.TextField()),
                    ("is_stale", models.BooleanField()),
                ], options={"managed": False, "db_table": "products_embedding"}),
                migrations.RunSQL(CREATE, "SELECT embed_drop('products')"),
            ]
    """,
    "shop/migrations/0002_changes.py": """
        from django.db import migrations, models

        class Migration(migrations.Migration):
            dependencies = [("shop", "0001_initial")]
            operations = [
                migrations.RenameField("Product", "description", "blurb"),
                migrations.AlterField("Product", "name", models.CharField(max_length=80)),
                migrations.AddField("Product", "price", models.IntegerField(default=0)),
                migrations.RemoveField("Product", "price"),
                migrations.AlterField("Product", "name", models.TextField()),
            ]
    """,
    "shop/tests.py": """
        from django.db import connection
        from django.test import TestCase, TransactionTestCase
        from shop.models import Embedding, Product

        def drain():
            with connection.cursor() as cursor:
                cursor.execute("SELECT embed_drain()")
                return cursor.fetchone()[0]

        class InOneTransaction(TestCase):
            def test_it_is_searched(self):
                lamp = Product.objects.create(name="Lamp", blurb="Gives light")
                assert drain() == 1
                assert Embedding.objects.get(product=lamp).chunk == "Lamp\\n\\nGives light"
                with connection.cursor() as cursor:
                    cursor.execute("SELECT key FROM embed_search('products', 'light')")
                    assert len(cursor.fetchall()) == 1

            def test_it_is_rolled_back(self):
                assert not Embedding.objects.exists()
                assert not Product.objects.exists()

        class ThatFlushes(TransactionTestCase):
            def test_one(self):
                Product.objects.create(name="Lamp", blurb="Gives light")
                drain()
                assert Embedding.objects.filter(is_stale=False).count() == 1

            def test_another(self):
                assert not Product.objects.exists()
                drain()
                assert not Embedding.objects.exists()
                Product.objects.create(name="Chair", blurb="Is sat on")
                assert drain() == 1
    """,
}


@pytest.fixture
def project(tmp_path: Path, cluster, dsn):
    """A project; ``manage('migrate')`` runs its manage.py and returns what it printed."""
    for name, content in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(content).lstrip())
    parts = conninfo_to_dict(dsn)
    place = {"NAME": parts["dbname"], "USER": parts["user"], "HOST": parts["host"], "PORT": str(parts["port"])}

    def manage(*arguments):
        env = {**os.environ, **place, "DJANGO_SETTINGS_MODULE": "settings", "PYTHONPATH": str(tmp_path)}
        command = [sys.executable, "-m", "django", *arguments]
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    return manage


def test_its_test_database_and_its_tests(project):
    assert "Ran 4 tests" in project("test", "--noinput", "-v", "1")


def test_migrations_and_what_they_find_to_do(project, dsn):
    project("migrate", "shop", "0001")
    with psycopg.connect(dsn, autocommit=True) as db:
        db.execute("INSERT INTO shop_product (name, description) VALUES ('Lamp', 'Gives light')")
        drain_all(db)
        project("migrate", "shop")
        assert "No changes detected" in project("makemigrations", "--check", "--dry-run")
        db.execute("UPDATE shop_product SET blurb = 'Gives much light'")
        drain_all(db)
        assert db.execute("SELECT chunk, is_stale FROM products_embedding").fetchall() == [
            ("Lamp\n\nGives much light", False)
        ]
        assert "class ShopProduct(models.Model)" in project("inspectdb")
        assert db.execute("SELECT state FROM embed_status").fetchall() == [("active",)]
        project("migrate", "shop", "zero")
        assert db.execute("SELECT count(*) FROM embed_pipelines").fetchone() == (0,)
