"""How an export for an evaluation tool is registered."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

from rollback_budget.cases.export.approved import ApprovedCase
from rollback_budget.exceptions import CaseError
from rollback_budget.registry import Group, RegistryError, load_class


class CaseExporter(ABC):
    """A format that approved cases are exported in. A subclass is registered as an entry point.

    The entry point is of ``rollback_budget.exporters``; its name is what is given to ``rollback-budget debt
    export``. The class is called without arguments.

    What a case holds (input, expectation, metadata) came from requests of strangers. It is data: an exporter
    sees to it that its tool renders no template in it, reads no file that it names, and runs none of it.
    """

    @abstractmethod
    def files(self, cases: Sequence[ApprovedCase]) -> Mapping[str, str]:
        """Return the content of every file by its path within the folder of the export.

        Files are written in this order, each at once; put last what makes the export usable. The same cases
        give the same files. Paths are relative, with ``/``, and stay within the folder.

        :param cases: in the order of their ids, each with an approved expectation.
        :raises CaseError: the format cannot carry one of them; the message names it.
        """


def open_exporter(name: str) -> CaseExporter:
    """Return the exporter that is registered as ``name``.

    :raises CaseError: there is none, or it cannot be imported.
    """
    try:
        return load_class(Group.EXPORTERS, name, CaseExporter)()
    except RegistryError as error:
        raise CaseError(str(error)) from error
