"""The tables of a study's database, the statements that are used all the time, and checksums."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    bindparam,
    delete,
    insert,
    literal_column,
    select,
    update,
)

METADATA = MetaData()

META = Table(
    "meta",
    METADATA,
    Column("key", String, primary_key=True),
    Column("value", JSON(none_as_null=True)),
    Column("checksum", BigInteger, nullable=False),
)
TRIALS = Table(
    "trials",
    METADATA,
    Column("number", Integer, primary_key=True, autoincrement=False),  # the order of proposal
    Column("index", String, nullable=False),  # decimal: spaces outgrow 64 bits
    Column("expression", String, nullable=False),
    Column("decision", String, nullable=False),  # train, reuse or exclude
    Column("source", Integer, ForeignKey("trials.number")),  # whose reward is reused
    Column("certificate", String),  # why the source is the same function
    Column("reason", String),  # why it is excluded
    Column("baseline", String),  # the baseline that is the same function
    Column("checksum", BigInteger, nullable=False),
)
TRAININGS = Table(
    "trainings",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("stage", String, nullable=False),
    Column("trial", Integer, ForeignKey("trials.number")),  # null for a baseline
    Column("expression", String, nullable=False),
    Column("seed", BigInteger, nullable=False),
    Column("split", String, nullable=False),
    Column("rung", Integer, nullable=False),  # of successive halving, else 0
    Column("budget", Integer),  # steps asked for; null for as many as the recipe says
    Column("state", String, nullable=False),
    Column("lease", Integer, nullable=False),  # grows with each claim: the fencing token
    Column("beat", Integer, nullable=False, default=0),  # grows while its holder is alive
    Column("losses", Integer, nullable=False),  # workers that died on it
    Column("worker", String),
    Column("metric", Float(53)),
    Column("loss", Float(53)),
    Column("seconds", Float(53)),
    Column("steps", Integer),
    Column("curve", JSON(none_as_null=True)),
    Column("reason", String),
    Column("checksum", BigInteger, nullable=False),
    Index("trainings_by_trial", "trial"),
)
_IS_PENDING = TRAININGS.c.state == literal_column("'pending'")  # a bound value would hide the index
Index("pending_trainings", TRAININGS.c.id, sqlite_where=_IS_PENDING, postgresql_where=_IS_PENDING)

_UNSEALED = {"id", "beat", "checksum"}
_SEALED = {
    table.name: [column.name for column in table.columns if column.name not in _UNSEALED]
    for table in (META, TRIALS, TRAININGS)
}


def sealed(table: Table, row: Mapping[str, Any]) -> dict[str, Any]:
    """The row with a checksum over all but the key that the database chose and the heartbeat."""
    text = json.dumps([row[name] for name in _SEALED[table.name]], sort_keys=True)
    return {**row, "checksum": zlib.crc32(text.encode())}


# Built once: SQLAlchemy compiles a statement the first time and then only binds its values.

GET = select(META).where(META.c.key == bindparam("wanted"))
FORGET = delete(META).where(META.c.key == bindparam("wanted"))
ALL_TRIALS = select(TRIALS).order_by(TRIALS.c.number)
OF_STAGE = (
    select(TRAININGS).where(TRAININGS.c.stage == bindparam("wanted")).order_by(TRAININGS.c.id)
)
BY_ID = select(TRAININGS).where(TRAININGS.c.id.in_(bindparam("wanted", expanding=True)))
HELD = (
    select(TRAININGS.c.id, TRAININGS.c.lease, TRAININGS.c.state)
    .where(TRAININGS.c.id.in_(bindparam("wanted", expanding=True)))
    .order_by(TRAININGS.c.id)  # writers lock rows in one order, so that they cannot wait in a ring
    .with_for_update()
)
RUNNING = select(TRAININGS).where(TRAININGS.c.state == "running").order_by(TRAININGS.c.id)
PENDING = (
    select(TRAININGS)
    .where(_IS_PENDING)
    .order_by(TRAININGS.c.id)
    .limit(bindparam("most"))
    .with_for_update(skip_locked=True)
)
ADD_TRIAL = insert(TRIALS)
ADD_FACT = insert(META)
ADD_TRAINING = insert(TRAININGS)
CHANGE = (
    update(TRAININGS)
    .where(TRAININGS.c.id == bindparam("row_id"))
    .values({name: bindparam(name) for name in (*_SEALED["trainings"], "checksum")})
)
CHANGE_HELD = CHANGE.where(
    TRAININGS.c.lease == bindparam("row_lease"), TRAININGS.c.state == bindparam("row_state")
)
BEAT = (
    update(TRAININGS)
    .where(TRAININGS.c.id == bindparam("row_id"), TRAININGS.c.lease == bindparam("row_lease"))
    .values(beat=TRAININGS.c.beat + 1)
)
