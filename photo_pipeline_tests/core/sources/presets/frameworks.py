"""The tables of the frameworks that presets are for, as the frameworks' own migrations create them.

Statements by dialect, with a few rows that look like what the framework stores, and the files behind them.
Where the shapes come from is said at each; WordPress ships MySQL tables, so here are those of its SQLite
plugin and of PG4WP.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from photo_pipeline.core.sources.presets import preset_text
from photo_pipeline_tests.conftest import MakeSite
from photo_pipeline_tests.sites import Site, photo

PROPERTY = "8f14e45f-ceea-467f-9b0e-1d2a5f0c9a01"


@dataclass(frozen=True)
class Framework:
    """One framework's application; `ddl` and `rows` by dialect name, or for `both`."""

    preset: str
    ddl: Mapping[str, tuple[str, ...]]
    rows: tuple[tuple[str, dict[str, Any]], ...]
    files: tuple[str, ...]


def build(make_site: MakeSite, framework: Framework, database: str) -> Site:
    """Build the framework's application, with the preset's own sources and variants."""
    preset = yaml.safe_load(preset_text(framework.preset))
    site = make_site(
        photos=0, rows=[], sources=preset["sources"], database=database, variants=preset["variants"]
    )
    (root,) = preset["roots"]
    # A prefix about as short as the presets' own: Django's columns are narrow.
    store = site.settings["store"] | {"prefix": site.name}
    site.configure(roots=[root | {"dir": str(site.uploads)}], store=store)
    site.execute("DROP TABLE item_photos")
    for statement in framework.ddl[database]:
        site.execute(statement)
    for statement, values in framework.rows:
        site.execute(statement, **values)
    for number, name in enumerate(framework.files):
        photo(Path(site.uploads) / name, seed=number, format="JPEG")
    return site


# Prisma: `prisma migrate dev` of a model with @id @default(uuid()), @map and an enum; columns in snake case by @map.
ITEM_PHOTOS = Framework(
    "item_photos",
    {
        "postgres": (
            "CREATE TYPE \"PhotoStatus\" AS ENUM ('local', 'migrated')",
            """CREATE TABLE "item_photos" ("id" UUID NOT NULL, "item_id" UUID NOT NULL,
            "original_url" TEXT NOT NULL, "thumbnail_url" TEXT, "display_order" INTEGER NOT NULL DEFAULT 0,
            "file_size" INTEGER, "mime_type" VARCHAR(100), "width" INTEGER, "height" INTEGER,
            "status" "PhotoStatus" NOT NULL DEFAULT 'local', "original_size" INTEGER, "bytes_saved" INTEGER,
            "savings_percent" DECIMAL(5,2), "created_at" TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
            "updated_at" TIMESTAMP(3) NOT NULL, CONSTRAINT "item_photos_pkey" PRIMARY KEY ("id"))""",
            'CREATE INDEX "item_photos_item_id_idx" ON "item_photos"("item_id")',
        ),
        "sqlite": (
            """CREATE TABLE "item_photos" ("id" TEXT NOT NULL PRIMARY KEY, "item_id" TEXT NOT NULL,
            "original_url" TEXT NOT NULL, "thumbnail_url" TEXT, "display_order" INTEGER NOT NULL DEFAULT 0,
            "file_size" INTEGER, "mime_type" TEXT, "width" INTEGER, "height" INTEGER,
            "status" TEXT NOT NULL DEFAULT 'local', "original_size" INTEGER, "bytes_saved" INTEGER,
            "savings_percent" DECIMAL, "created_at" DATETIME NOT NULL DEFAULT CURRENT_TIMESTAMP,
            "updated_at" DATETIME NOT NULL)""",
        ),
    },
    tuple(
        (
            "INSERT INTO item_photos (id, item_id, original_url, thumbnail_url, display_order, created_at,"
            " updated_at) VALUES (:id, :item, :url, :thumb, :n, '2025-01-02 03:04:05', '2025-01-02 03:04:05')",
            {
                "id": f"8f14e45f-ceea-467f-9b0e-00000000000{n}",
                "item": PROPERTY,
                "url": f"https://shop.example/uploads/items/{n}.jpg",
                "thumb": f"/uploads/items/{n}_thumb.jpg",
                "n": n,
            },
        )
        for n in range(2)
    ),
    ("items/0.jpg", "items/1.jpg", "items/0_thumb.jpg", "items/1_thumb.jpg"),
)

# Knex-style migrations: table.increments(), table.timestamps(true, true), a composite primary key.
PROPERTY_IMAGES = Framework(
    "property_images",
    {
        "postgres": (
            """CREATE TABLE property_images (id SERIAL PRIMARY KEY, property_id UUID NOT NULL, image_url
            VARCHAR(255), thumbnail_url VARCHAR(255), caption TEXT, sort_order INTEGER, is_primary BOOLEAN,
            width INTEGER, height INTEGER, created_at TIMESTAMPTZ DEFAULT now(), updated_at TIMESTAMPTZ)""",
            """CREATE TABLE project_images (project_id INTEGER NOT NULL, image_no SMALLINT NOT NULL,
            file_path TEXT NOT NULL, PRIMARY KEY (project_id, image_no))""",
            """CREATE TABLE users (id BIGSERIAL PRIMARY KEY, email VARCHAR(255) NOT NULL UNIQUE,
            avatar_url VARCHAR(255), updated_at TIMESTAMPTZ)""",
        ),
        "sqlite": (
            """CREATE TABLE property_images (id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, property_id CHAR(36)
            NOT NULL, image_url VARCHAR(255), thumbnail_url VARCHAR(255), caption TEXT, sort_order INTEGER,
            is_primary BOOLEAN, width INTEGER, height INTEGER, created_at DATETIME, updated_at DATETIME)""",
            """CREATE TABLE project_images (project_id INTEGER NOT NULL, image_no INTEGER NOT NULL,
            file_path TEXT NOT NULL, PRIMARY KEY (project_id, image_no))""",
            """CREATE TABLE users (id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, email VARCHAR(255) NOT NULL
            UNIQUE, avatar_url VARCHAR(255), updated_at DATETIME)""",
        ),
    },
    (
        (
            "INSERT INTO property_images (property_id, image_url, sort_order, is_primary, created_at, updated_at)"
            " VALUES (:p, '/uploads/properties/a.jpg', 1, :yes, '2025-01-02 03:04:05', '2025-01-02 03:04:05')",
            {"p": PROPERTY, "yes": True},
        ),
        (
            "INSERT INTO property_images (property_id, image_url, sort_order, is_primary, created_at)"
            " VALUES (:p, NULL, 2, :no, '2025-01-02 03:04:05')",
            {"p": PROPERTY, "no": False},
        ),
        ("INSERT INTO project_images VALUES (7, 1, 'projects/b.jpg')", {}),
        ("INSERT INTO project_images VALUES (7, 2, 'uploads/projects/c.jpg')", {}),
        (
            "INSERT INTO users (email, avatar_url, updated_at) VALUES ('a@b.example', '/uploads/faces/d.jpg',"
            " '2025-01-02 03:04:05')",
            {},
        ),
        ("INSERT INTO users (email) VALUES ('none@b.example')", {}),
    ),
    ("properties/a.jpg", "projects/b.jpg", "projects/c.jpg", "faces/d.jpg"),
)

# Django 5: `sqlmigrate` of a model with ImageField(width_field=…, height_field=…) on both backends.
DJANGO = Framework(
    "django_imagefield",
    {
        "postgres": (
            """CREATE TABLE "shop_product" ("id" bigint NOT NULL PRIMARY KEY GENERATED BY DEFAULT AS IDENTITY,
            "name" varchar(200) NOT NULL, "image" varchar(100) NOT NULL,
            "image_width" integer NULL CHECK ("image_width" >= 0),
            "image_height" integer NULL CHECK ("image_height" >= 0))""",
        ),
        "sqlite": (
            """CREATE TABLE "shop_product" ("id" integer NOT NULL PRIMARY KEY AUTOINCREMENT,
            "name" varchar(200) NOT NULL, "image" varchar(100) NOT NULL,
            "image_width" integer unsigned NULL CHECK ("image_width" >= 0),
            "image_height" integer unsigned NULL CHECK ("image_height" >= 0))""",
        ),
    },
    (
        (
            "INSERT INTO shop_product (name, image, image_width, image_height)"
            " VALUES ('chair', 'products/2025/01/chair_x7Qk2.jpg', 320, 240)",
            {},
        ),
        ("INSERT INTO shop_product (name, image) VALUES ('no picture', '')", {}),
    ),
    ("products/2025/01/chair_x7Qk2.jpg",),
)

# Strapi 4.25 and 5: the `files` table of plugin::upload, as its schema builder creates it.
_STRAPI_FORMATS = (
    '{"thumbnail":{"name":"thumbnail_cat.jpg","hash":"thumbnail_cat_5f1","ext":".jpg","mime":"image/jpeg",'
    '"path":null,"width":234,"height":156,"size":9.12,"url":"/uploads/thumbnail_cat_5f1.jpg"}}'
)
STRAPI = Framework(
    "strapi",
    {
        "postgres": (
            """CREATE TABLE "files" ("id" serial NOT NULL PRIMARY KEY, "document_id" varchar(255) NULL,
            "name" varchar(255) NULL, "alternative_text" varchar(255) NULL, "caption" varchar(255) NULL,
            "width" integer NULL, "height" integer NULL, "formats" jsonb NULL, "hash" varchar(255) NULL,
            "ext" varchar(255) NULL, "mime" varchar(255) NULL, "size" decimal(10, 2) NULL,
            "url" varchar(255) NULL, "preview_url" varchar(255) NULL, "provider" varchar(255) NULL,
            "provider_metadata" jsonb NULL, "folder_path" varchar(255) NULL, "created_at" timestamp(6) NULL,
            "updated_at" timestamp(6) NULL, "published_at" timestamp(6) NULL, "created_by_id" integer NULL,
            "updated_by_id" integer NULL, "locale" varchar(255) NULL)""",
        ),
        "sqlite": (
            """CREATE TABLE `files` (`id` integer not null primary key autoincrement, `document_id`
            varchar(255) null, `name` varchar(255) null, `alternative_text` varchar(255) null, `caption`
            varchar(255) null, `width` integer null, `height` integer null, `formats` json null, `hash`
            varchar(255) null, `ext` varchar(255) null, `mime` varchar(255) null, `size` float null, `url`
            varchar(255) null, `preview_url` varchar(255) null, `provider` varchar(255) null,
            `provider_metadata` json null, `folder_path` varchar(255) null, `created_at` datetime null,
            `updated_at` datetime null, `published_at` datetime null, `created_by_id` integer null,
            `updated_by_id` integer null, `locale` varchar(255) null)""",
        ),
    },
    (
        (
            "INSERT INTO files (name, width, height, formats, hash, ext, mime, size, url, provider, created_at,"
            " updated_at) VALUES ('cat.jpg', 320, 240, :formats, 'cat_5f1', '.jpg', 'image/jpeg', 41.5,"
            " '/uploads/cat_5f1.jpg', 'local', '2025-01-02 03:04:05.678', '2025-01-02 03:04:05.678')",
            {"formats": _STRAPI_FORMATS},
        ),
        (
            "INSERT INTO files (name, hash, ext, mime, size, url, provider)"
            " VALUES ('terms.pdf', 'terms_1', '.pdf', 'application/pdf', 9, '/uploads/terms_1.pdf', 'local')",
            {},
        ),
    ),
    ("cat_5f1.jpg", "thumbnail_cat_5f1.jpg"),
)

# Laravel: database/migrations/create_media_table.php.stub of spatie/laravel-medialibrary 11.
LARAVEL = Framework(
    "laravel_media_library",
    {
        "postgres": (
            """CREATE TABLE "media" ("id" bigserial NOT NULL PRIMARY KEY, "model_type" varchar(255) NOT NULL,
            "model_id" bigint NOT NULL, "uuid" uuid NULL, "collection_name" varchar(255) NOT NULL,
            "name" varchar(255) NOT NULL, "file_name" varchar(255) NOT NULL, "mime_type" varchar(255) NULL,
            "disk" varchar(255) NOT NULL, "conversions_disk" varchar(255) NULL, "size" bigint NOT NULL,
            "manipulations" json NOT NULL, "custom_properties" json NOT NULL, "generated_conversions" json NOT
            NULL, "responsive_images" json NOT NULL, "order_column" integer NULL,
            "created_at" timestamp(0) NULL, "updated_at" timestamp(0) NULL)""",
        ),
        "sqlite": (
            """CREATE TABLE "media" ("id" integer primary key autoincrement not null, "model_type" varchar not
            null, "model_id" integer not null, "uuid" varchar, "collection_name" varchar not null, "name" varchar
            not null, "file_name" varchar not null, "mime_type" varchar, "disk" varchar not null,
            "conversions_disk" varchar, "size" integer not null, "manipulations" text not null,
            "custom_properties" text not null, "generated_conversions" text not null, "responsive_images" text
            not null, "order_column" integer, "created_at" datetime, "updated_at" datetime)""",
        ),
    },
    tuple(
        (
            "INSERT INTO media (model_type, model_id, uuid, collection_name, name, file_name, mime_type, disk,"
            " conversions_disk, size, manipulations, custom_properties, generated_conversions,"
            " responsive_images, order_column, created_at, updated_at) VALUES (:model, :n, :uuid,"
            " 'default', :name, :file, 'image/jpeg', 'public', 'public', 9000, '[]', '[]', :made, '[]', :n,"
            " '2025-01-02 03:04:05', '2025-01-02 03:04:05')",
            {
                "model": "App\\Models\\Product",
                "n": n,
                "uuid": f"8f14e45f-ceea-467f-9b0e-00000000000{n}",
                "name": f"photo {n}",
                "file": f"photo-{n}.jpg",
                "made": '{"thumb": true}',
            },
        )
        for n in (1, 2)
    ),
    ("1/photo-1.jpg", "2/photo-2.jpg", "1/conversions/photo-1-thumb.jpg"),
)

# Rails 7.1: `rails active_storage:install`, create_active_storage_tables.rb.
_BLOB_KEYS = ("xk3vq2m1n8p7r6s5t4u3w2y1z0ab", "ab9cd8ef7gh6ij5kl4mn3op2qr1s")
RAILS = Framework(
    "rails_active_storage",
    {
        "postgres": (
            """CREATE TABLE "active_storage_blobs" ("id" bigserial primary key, "key" character varying NOT NULL,
            "filename" character varying NOT NULL, "content_type" character varying, "metadata" text,
            "service_name" character varying NOT NULL, "byte_size" bigint NOT NULL,
            "checksum" character varying, "created_at" timestamp(6) NOT NULL)""",
            """CREATE UNIQUE INDEX "index_active_storage_blobs_on_key" ON "active_storage_blobs" ("key")""",
            """CREATE TABLE "active_storage_attachments" ("id" bigserial primary key, "name" character varying
            NOT NULL, "record_type" character varying NOT NULL, "record_id" bigint NOT NULL,
            "blob_id" bigint NOT NULL REFERENCES "active_storage_blobs" ("id"),
            "created_at" timestamp(6) NOT NULL)""",
            """CREATE TABLE "active_storage_variant_records" ("id" bigserial primary key, "blob_id" bigint NOT
            NULL REFERENCES "active_storage_blobs" ("id"), "variation_digest" character varying NOT NULL)""",
        ),
        "sqlite": (
            """CREATE TABLE "active_storage_blobs" ("id" integer PRIMARY KEY AUTOINCREMENT NOT NULL, "key"
            varchar NOT NULL, "filename" varchar NOT NULL, "content_type" varchar, "metadata" text,
            "service_name" varchar NOT NULL, "byte_size" bigint NOT NULL, "checksum" varchar,
            "created_at" datetime(6) NOT NULL)""",
            """CREATE UNIQUE INDEX "index_active_storage_blobs_on_key" ON "active_storage_blobs" ("key")""",
            """CREATE TABLE "active_storage_attachments" ("id" integer PRIMARY KEY AUTOINCREMENT NOT NULL, "name"
            varchar NOT NULL, "record_type" varchar NOT NULL, "record_id" bigint NOT NULL, "blob_id" bigint NOT
            NULL REFERENCES "active_storage_blobs" ("id"), "created_at" datetime(6) NOT NULL)""",
            """CREATE TABLE "active_storage_variant_records" ("id" integer PRIMARY KEY AUTOINCREMENT NOT NULL,
            "blob_id" bigint NOT NULL REFERENCES "active_storage_blobs" ("id"), "variation_digest" varchar NOT
            NULL)""",
        ),
    },
    (
        *(
            (
                'INSERT INTO active_storage_blobs ("key", filename, content_type, metadata, service_name, byte_size,'
                " checksum, created_at) VALUES (:k, 'cat.jpg', 'image/jpeg', :m, 'local', 9000,"
                " 'rL0Y20zC+Fzt72VPzMSk2A==', '2025-01-02 03:04:05.678901')",
                {"k": key, "m": '{"identified":true}'},
            )
            for key in _BLOB_KEYS
        ),
        (
            "INSERT INTO active_storage_attachments (name, record_type, record_id, blob_id, created_at)"
            " VALUES ('photo', 'Product', 1, 1, '2025-01-02 03:04:05.678901')",
            {},
        ),
    ),
    tuple(f"{key[0:2]}/{key[2:4]}/{key}" for key in _BLOB_KEYS),
)

# WordPress 6: wp-admin/includes/schema.php; columns that matter here, in the plugins' types.
WORDPRESS = Framework(
    "wordpress",
    {
        "postgres": (
            """CREATE TABLE wp_posts ("ID" BIGSERIAL PRIMARY KEY, post_author BIGINT NOT NULL DEFAULT 0,
            post_date TIMESTAMP NOT NULL, post_content TEXT NOT NULL, post_title TEXT NOT NULL,
            post_status VARCHAR(20) NOT NULL DEFAULT 'publish', post_name VARCHAR(200) NOT NULL DEFAULT '',
            guid VARCHAR(255) NOT NULL DEFAULT '', post_type VARCHAR(20) NOT NULL DEFAULT 'post',
            post_mime_type VARCHAR(100) NOT NULL DEFAULT '')""",
            """CREATE TABLE wp_postmeta (meta_id BIGSERIAL PRIMARY KEY, post_id BIGINT NOT NULL DEFAULT 0,
            meta_key VARCHAR(255) DEFAULT NULL, meta_value TEXT)""",
        ),
        "sqlite": (
            """CREATE TABLE wp_posts ("ID" INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, post_author INTEGER NOT NULL
            DEFAULT 0, post_date TEXT NOT NULL, post_content TEXT NOT NULL COLLATE NOCASE, post_title TEXT NOT
            NULL, post_status TEXT NOT NULL DEFAULT 'publish', post_name TEXT NOT NULL DEFAULT '', guid TEXT NOT
            NULL DEFAULT '', post_type TEXT NOT NULL DEFAULT 'post', post_mime_type TEXT NOT NULL DEFAULT '')""",
            """CREATE TABLE wp_postmeta (meta_id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, post_id INTEGER NOT
            NULL DEFAULT 0, meta_key TEXT DEFAULT NULL COLLATE NOCASE, meta_value TEXT COLLATE NOCASE)""",
        ),
    },
    (
        (
            "INSERT INTO wp_posts (post_date, post_content, post_title, guid, post_type, post_mime_type) VALUES"
            " ('2025-01-02 03:04:05', '', 'cat', :url, 'attachment', 'image/jpeg')",
            {"url": "https://blog.example/wp-content/uploads/2025/01/cat.jpg"},
        ),
        (
            "INSERT INTO wp_posts (post_date, post_content, post_title, guid) VALUES ('2025-01-02 03:04:05',"
            " :text, 'A cat', 'https://blog.example/?p=2')",
            {
                "text": '<p>Hi</p><img src="https://blog.example/wp-content/uploads/2025/01/cat-300x225.jpg" '
                'alt="cat" srcset="https://blog.example/wp-content/uploads/2025/01/cat.jpg 320w">'
            },
        ),
        (
            "INSERT INTO wp_postmeta (post_id, meta_key, meta_value) VALUES (1, '_wp_attached_file', :v)",
            {"v": "2025/01/cat.jpg"},
        ),
        (
            "INSERT INTO wp_postmeta (post_id, meta_key, meta_value) VALUES (1, '_wp_attachment_metadata', :v)",
            {"v": 'a:3:{s:5:"width";i:320;s:6:"height";i:240;s:4:"file";s:15:"2025/01/cat.jpg";}'},
        ),
    ),
    ("2025/01/cat.jpg", "2025/01/cat-300x225.jpg"),
)

FRAMEWORKS = (ITEM_PHOTOS, PROPERTY_IMAGES, DJANGO, STRAPI, LARAVEL, RAILS, WORDPRESS)
