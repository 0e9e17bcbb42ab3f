"""The bus that imports, as `sagabus worker examples.import_once.app:bus` runs it.

`IMPORT_ONCE_NAMESPACE` keeps one run apart from another; `IMPORT_ONCE_SERVICE` is the database of the service.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from examples.import_once.service import ImportService
from sagabus import Bus, message
from sagas import Once, once

NAMESPACE: Final = os.environ.get("IMPORT_ONCE_NAMESPACE", "import-once")
SERVICE: Final = os.environ.get("IMPORT_ONCE_SERVICE", "imports.sqlite3")


@message("import.file-published")
class FilePublished:
    """A file is there. Said many times for one file, by whoever has noticed it."""

    path: str


def open_imports(bus: Bus, importer: ImportService) -> Once[[FilePublished, str], None]:
    """Have *bus* import every file that is published, once; return the import, to ask it about a file."""
    # Small batches spread the notifications of one file over the workers; large ones would be faster, and race less.
    imports = bus.endpoint("imports", batch=4, concurrency=4, max_attempts=20)

    @once(imports, key="path", name="import")
    def import_file(m: FilePublished, idempotency_key: str) -> None:
        importer.import_(m.path, idempotency_key=idempotency_key)

    return import_file


bus = Bus(namespace=NAMESPACE)
open_imports(bus, ImportService(Path(SERVICE)))
