-- Written by generate.sh. The golden data of the demo's shop, for sqlite.
CREATE TABLE customers (
    id    INTEGER PRIMARY KEY,
    name  TEXT NOT NULL,
    email TEXT NOT NULL,
    city  TEXT NOT NULL
);

CREATE TABLE products (
    id          INTEGER PRIMARY KEY,
    sku         TEXT NOT NULL UNIQUE,
    name        TEXT NOT NULL,
    price_cents BIGINT NOT NULL,
    stock       BIGINT NOT NULL
);

CREATE TABLE orders (
    id          INTEGER PRIMARY KEY,
    customer_id BIGINT NOT NULL REFERENCES customers (id),
    status      TEXT NOT NULL,
    placed_at   BIGINT NOT NULL,
    updated_at  BIGINT NOT NULL
);

CREATE TABLE order_items (
    order_id    BIGINT NOT NULL REFERENCES orders (id),
    product_id  BIGINT NOT NULL REFERENCES products (id),
    quantity    BIGINT NOT NULL,
    price_cents BIGINT NOT NULL,
    PRIMARY KEY (order_id, product_id)
);

CREATE INDEX orders_by_status ON orders (status, updated_at);

CREATE TABLE worker_beat (
    name    TEXT PRIMARY KEY,
    seen_at BIGINT NOT NULL,
    handled BIGINT NOT NULL
);

-- Fictional customers, products and 500 orders of late 2026. The same text works on PostgreSQL and SQLite:
-- everything is computed from row numbers, nothing is random.

WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 79),
given(i, name) AS (VALUES
    (0, 'Aiko'), (1, 'Benedikt'), (2, 'Chiara'), (3, 'Daniel'), (4, 'Esra'), (5, 'Farid'), (6, 'Greta'), (7, 'Hugo'),
    (8, 'Ines'), (9, 'Jonas'), (10, 'Kaya'), (11, 'Lucía'), (12, 'Mateo'), (13, 'Noor'), (14, 'Oskar'), (15, 'Priya')),
family(i, name) AS (VALUES
    (0, 'Tanaka'), (1, 'Weber'), (2, 'Rossi'), (3, 'Okafor'), (4, 'Yıldız'), (5, 'Haddad'), (6, 'Lindqvist'),
    (7, 'Moreau'), (8, 'Silva'), (9, 'Novak'), (10, 'Murphy')),
place(i, name) AS (VALUES
    (0, 'Kyoto'), (1, 'Leipzig'), (2, 'Torino'), (3, 'Lagos'), (4, 'İzmir'), (5, 'Lyon'), (6, 'Göteborg'), (7, 'Porto'),
    (8, 'Brno'), (9, 'Cork'), (10, 'Osaka'), (11, 'Utrecht'), (12, 'Graz'))
INSERT INTO customers (id, name, email, city)
SELECT n.i + 1,
       given.name || ' ' || family.name,
       'customer' || (n.i + 1) || '@shop.example',
       place.name
FROM n
JOIN given ON given.i = n.i % 16
JOIN family ON family.i = (n.i * 7 + n.i / 16) % 11
JOIN place ON place.i = (n.i * 5) % 13
ORDER BY n.i;

INSERT INTO products (id, sku, name, price_cents, stock) VALUES
    (1,  'INK-IWA', 'Bottled ink, rock blue', 2200, 48),
    (2,  'INK-MOM', 'Bottled ink, maple red', 2200, 35),
    (3,  'INK-SUM', 'Sumi ink stick', 1850, 60),
    (4,  'PAP-WAS', 'Washi paper, 100 sheets', 3400, 27),
    (5,  'PAP-LET', 'Letter set, cloud pattern', 1290, 112),
    (6,  'PAP-NOT', 'Notebook A5, dotted', 1650, 203),
    (7,  'PEN-FTN', 'Fountain pen, cedar', 8900, 14),
    (8,  'PEN-BRU', 'Brush pen, fine', 980, 140),
    (9,  'PEN-NIB', 'Spare nib, medium', 1500, 52),
    (10, 'TEA-SEN', 'Sencha, 100 g', 1450, 88),
    (11, 'TEA-HOJ', 'Hojicha, 100 g', 1250, 94),
    (12, 'TEA-MAT', 'Matcha, 30 g', 2650, 9),
    (13, 'CUP-YUN', 'Tea cup, Shigaraki clay', 3200, 21),
    (14, 'CUP-POT', 'Side-handle teapot', 6400, 6),
    (15, 'BOX-GIF', 'Gift box, paulownia wood', 2100, 33),
    (16, 'WRA-FUR', 'Wrapping cloth, indigo', 1950, 41),
    (17, 'STA-SEA', 'Carved seal, pear wood', 2750, 3),
    (18, 'CAL-027', 'Wall calendar 2027', 1800, 76);

-- Most orders are done. The newest ones are on their way, which gives the worker something to do.
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500)
INSERT INTO orders (id, customer_id, status, placed_at, updated_at)
SELECT n.i,
       (n.i * 37 + n.i / 9) % 80 + 1,
       CASE
           WHEN n.i > 490 THEN 'new'
           WHEN n.i > 478 THEN 'paid'
           WHEN n.i > 455 THEN 'packed'
           WHEN n.i % 29 = 0 THEN 'cancelled'
           WHEN n.i % 41 = 0 THEN 'returned'
           WHEN n.i > 400 THEN 'shipped'
           ELSE 'delivered'
       END,
       1795305600000 - CAST(500 - n.i AS BIGINT) * 5400000 - (n.i * 7919) % 3600 * 1000,
       1795305600000 - CAST(500 - n.i AS BIGINT) * 5400000
FROM n
ORDER BY n.i;

WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500),
line(k) AS (VALUES (0), (1), (2), (3))
INSERT INTO order_items (order_id, product_id, quantity, price_cents)
SELECT n.i, products.id, (n.i * 3 + line.k * 5) % 3 + 1, products.price_cents
FROM n
JOIN line ON line.k <= (n.i * 11) % 4
JOIN products ON products.id = (n.i * 13 + line.k * 5) % 18 + 1
ORDER BY n.i, products.id;

CREATE TABLE shop_migrations (name TEXT PRIMARY KEY, applied_at BIGINT NOT NULL);
INSERT INTO shop_migrations (name, applied_at) VALUES ('0001_shop', 1795305600000);
INSERT INTO shop_migrations (name, applied_at) VALUES ('0002_worker', 1795305600000);

