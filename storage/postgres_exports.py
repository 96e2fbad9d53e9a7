"""The table of exports in PostgreSQL: see :class:`storage.exports.ledger.ExportLedger`."""

from storage.exports.ledger import SqlLedger


class PostgresExports(SqlLedger):
    """The part of PostgresStorage that keeps it."""
