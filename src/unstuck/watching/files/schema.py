"""The tables of a recorded run: one SQLite file a run. docs/run-store.md explains them to whoever reads the file."""

from dataclasses import dataclass

# Raised whenever a reader of the present version could no longer understand the file.
VERSION = 1


@dataclass(frozen=True)
class Table:
    """One table: its name, and what each of its columns is declared as."""

    name: str
    columns: dict[str, str]

    @property
    def create(self) -> str:
        """The statement that makes it."""
        columns = ", ".join(f"{name} {kind}" for name, kind in self.columns.items())
        return f"CREATE TABLE {self.name} ({columns})"

    def insert(self, rows: int) -> str:
        """Write so many rows at once."""
        row = f"({', '.join('?' * len(self.columns))})"
        return f"INSERT INTO {self.name} VALUES {', '.join([row] * rows)}"  # noqa: S608 - our own names


WHERE = {"optimizer": "INTEGER NOT NULL", "step": "INTEGER NOT NULL", "time": "REAL NOT NULL"}

ABOUT = Table("about", {"key": "TEXT PRIMARY KEY", "value": "TEXT"})
OPTIMIZERS = Table(
    "optimizers",
    {"optimizer": "INTEGER PRIMARY KEY", "name": "TEXT", "model": "TEXT", "parameters": "INTEGER"},
)
STEPS = Table(
    "steps",
    {**WHERE, "count": "INTEGER NOT NULL", "loss": "REAL", "rate": "REAL", "not_a_number": "INTEGER"},
)
SAMPLES = Table(
    "samples",
    {
        **WHERE,
        **dict.fromkeys(
            (
                "gradient_norm",
                "weight_norm",
                "update_norm",
                "gradient_cosine",
                "descent_cosine",
                "signal",
                "noise",
                "sigma",
                "sigma_ratio",
                "unchanged",
                "overshoot",
                "steps_per_second",
                "cost",
            ),
            "REAL",
        ),
    },
)
LAYERS = Table(
    "layers",
    {
        "optimizer": "INTEGER NOT NULL",
        "step": "INTEGER NOT NULL",
        "layer": "TEXT NOT NULL",
        "gradient_norm": "REAL",
        "weight_norm": "REAL",
        "update_norm": "REAL",
    },
)
GROUPS = Table(
    "groups",
    {
        "optimizer": "INTEGER NOT NULL",
        "step": "INTEGER NOT NULL",
        "number": "INTEGER NOT NULL",
        "rate": "REAL",
        "gradient_norm": "REAL",
        "weight_norm": "REAL",
        "update_norm": "REAL",
    },
)
LOOKS = Table("looks", {**WHERE, "seconds": "REAL", "gradients": "REAL", "document": "TEXT NOT NULL"})
EVENTS = Table(
    "events", {**WHERE, "kind": "TEXT NOT NULL", "message": "TEXT NOT NULL", "document": "TEXT NOT NULL"}
)

TABLES = (ABOUT, OPTIMIZERS, STEPS, SAMPLES, LAYERS, GROUPS, LOOKS, EVENTS)
