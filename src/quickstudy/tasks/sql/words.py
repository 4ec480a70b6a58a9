"""Names and values that schemas are made of. No name that goes unquoted is a keyword of a dialect."""

from __future__ import annotations

TABLES = (
    ("customers", "customer"),
    ("orders", "purchase"),
    ("products", "product"),
    ("employees", "employee"),
    ("invoices", "invoice"),
    ("payments", "payment"),
    ("flights", "flight"),
    ("airports", "airport"),
    ("books", "book"),
    ("authors", "author"),
    ("movies", "movie"),
    ("actors", "actor"),
    ("students", "student"),
    ("courses", "course"),
    ("teachers", "teacher"),
    ("patients", "patient"),
    ("doctors", "doctor"),
    ("rooms", "room"),
    ("hotels", "hotel"),
    ("bookings", "booking"),
    ("songs", "song"),
    ("albums", "album"),
    ("artists", "artist"),
    ("teams", "team"),
    ("players", "player"),
    ("games", "game"),
    ("stores", "store"),
    ("shipments", "shipment"),
    ("suppliers", "supplier"),
    ("accounts", "account"),
    ("loans", "loan"),
    ("branches", "branch"),
    ("vehicles", "vehicle"),
    ("drivers", "driver"),
    ("trips", "trip"),
    ("sensors", "sensor"),
    ("readings", "reading"),
    ("tickets", "ticket"),
    ("projects", "project"),
    ("recipes", "recipe"),
)
"""A table, and what one of its rows is called in the names of links."""

TEXT_COLUMNS = {
    "name": ("Anna", "Boris", "Chloe", "Dmitri", "Elena", "Farid", "Grace", "O'Brien", "Ines", "Jonas"),
    "title": ("Dawn", "The Long Road", "Silent Sea", "Ada's Garden", "Winter", "Open Doors", "North"),
    "city": ("Paris", "Lima", "Oslo", "Cairo", "Kyoto", "Quito", "Porto", "Dakar"),
    "country": ("France", "Peru", "Norway", "Egypt", "Japan", "Ecuador", "Portugal"),
    "email": ("ana@mail.org", "bo@site.net", "kim@post.io", "lee@mail.org", "max@site.net"),
    "status": ("open", "closed", "pending", "shipped", "cancelled"),
    "category": ("toys", "food", "tools", "sport", "garden"),
    "color": ("red", "green", "blue", "black", "white"),
    "brand": ("Acme", "Nordik", "Solis", "Vega", "Zenit"),
    "genre": ("drama", "comedy", "jazz", "rock", "poetry"),
    "street": ("Main St", "Oak Ave", "Hill Rd", "King's Row", "Lake Dr"),
    "phone": ("555-0101", "555-0117", "555-0142", "555-0168"),
    "code": ("A1", "B2", "C3", "D4", "E5", "F6"),
    "currency": ("EUR", "USD", "JPY", "GBP"),
    "department": ("sales", "legal", "support", "research"),
    "first name": ("Anna", "Boris", "Chloe", "Dmitri", "Elena"),
    "order": ("web", "shop", "post"),
    "group": ("alpha", "beta", "gamma"),
}

INT_COLUMNS = (
    "age",
    "quantity",
    "stock",
    "seats",
    "points",
    "pages",
    "wins",
    "visits",
    "capacity",
    "minutes_used",
    "clicks",
    "credits",
    "votes",
    "unit count",
    "table",
)

DOUBLE_COLUMNS = (
    "price",
    "salary",
    "rating",
    "weight",
    "height",
    "discount",
    "balance",
    "tax",
    "distance",
    "amount",
    "budget",
    "fee",
    "unit price",
)

DATE_COLUMNS = (
    "created_on",
    "birth_date",
    "hired_on",
    "due_date",
    "sold_on",
    "updated_on",
    "start_date",
    "last_visit",
    "paid_on",
    "end date",
)

BOOLEAN_COLUMNS = ("is_active", "is_paid", "verified", "archived", "in_stock", "is_public", "refunded")

ALIASES = (
    "total",
    "result",
    "amount_due",
    "label",
    "summary",
    "figure",
    "entry",
    "item",
    "short_form",
    "outcome",
    "share",
    "detail",
    "full text",
)
"""Names of computed columns."""

QUERY_NAMES = ("recent", "picked", "base", "chosen", "part", "subset_a", "sample_rows")
"""Names of subqueries and of common table expressions."""
