"""What the site is about: the records that count, arranged, and the address of each page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

from ..analysis.gathering import Gathered, backbone_of, gather
from ..analysis.matrix import EvaluatedMethod, Matrix, TargetDataset, arrange
from ..analysis.record_checks import CHECKS, Fault
from ..analysis.table_data import DASH
from ..errors import UsageError
from ..files import file_name
from ..records.record import Record
from ..track import Track

TOLD_ELSEWHERE = ("names", "outcome")  # plug-ins are welcome, and failed cells are shown as such


@dataclass(frozen=True)
class Refused:
    """A record that does not count, and why."""

    record: Record
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Catalogue:
    """Records of runs and repositories, arranged for a site.

    Attributes:
        matrix: of the records that count.
        gathered: the same with the records as they were read, and those of which newer ones count.
        refused: records that are wrong.
    """

    matrix: Matrix
    gathered: Gathered
    refused: tuple[Refused, ...]

    @classmethod
    def of(cls, records: Iterable[Record], allow_incomplete: bool = False) -> Catalogue:
        """Hold records to the checks of `zsad validate`, and arrange those that pass.

        Raises:
            NoRecordsError: there are no records.
            UsageError: none of them passes.
        """
        sound: list[Record] = []
        refused: list[Refused] = []
        for record in records:
            reasons = tuple(map(_words, _wrongs(record)))
            if reasons:
                refused.append(Refused(record, reasons))
            else:
                sound.append(record)
        if refused and not sound:
            raise UsageError(
                f"all {len(refused)} records are wrong ({refused[0].reasons[0]}): "
                "zsad validate tells what is wrong with each"
            )
        gathered = gather(sound)
        matrix = arrange(gathered.records, allow_incomplete=allow_incomplete)
        return cls(matrix, gathered, tuple(refused))

    @cached_property
    def by_name(self) -> Mapping[str, Sequence[EvaluatedMethod]]:
        """The evaluated methods of each method, which share a page."""
        found: dict[str, list[EvaluatedMethod]] = {}
        for method in self.matrix.methods:
            found.setdefault(method.method, []).append(method)
        return found

    def pairs(self) -> list[tuple[EvaluatedMethod, EvaluatedMethod]]:
        """Two methods of one track that have finished a dataset in common, in order."""
        finished = {
            method: {d for d in self.matrix.datasets if self.matrix.finished(method, d)}
            for method in self.matrix.methods
        }
        return [
            (a, b)
            for a, b in combinations(self.matrix.methods, 2)
            if a.track is b.track and finished[a] & finished[b]
        ]

    def original(self, record: Record) -> Record:
        """A record of the matrix as it was read."""
        return self._originals[id(record)]

    @cached_property
    def _originals(self) -> Mapping[int, Record]:
        pairs = zip(self.gathered.records, self.gathered.originals, strict=True)
        return {id(shown): read for shown, read in pairs}

    def slug(self, method: EvaluatedMethod) -> str:
        """A method with its variant, options, label and backbone, as a file name."""
        return self.matrix.of_method(method)[0].cell.method_key


def _wrongs(record: Record) -> list[Fault]:
    names = [name for name in CHECKS if name not in TOLD_ELSEWHERE]
    return [f for name in names for f in CHECKS[name](record) if f.gravity == "wrong"]


def _words(fault: Fault) -> str:
    return f"{fault.category}: {fault.message}" if fault.category else fault.message


@dataclass(frozen=True)
class ShownRecord:
    """A record in a list of records.

    Attributes:
        record: of the matrix.
        method, dataset: whose it is there.
    """

    record: Record
    method: EvaluatedMethod
    dataset: TargetDataset

    @property
    def backbone(self) -> str:
        """The backbone's name, a dash where it is not recorded."""
        return backbone_of(self.record) or DASH

    @property
    def started(self) -> str:
        """When its run started."""
        return started(self.record)

    def stated(self, name: str) -> str:
        """An entry of its provenance, a dash where it has none."""
        return str(self.record.provenance.get(name) or DASH)


def started(record: Record) -> str:
    """When a record's run started, to the minute; a dash where it is not recorded."""
    return str(record.provenance.get("started") or DASH)[:16].replace("T", " ")


def shown_records(matrix: Matrix, records: Iterable[Record]) -> list[ShownRecord]:
    """Records of a matrix with their methods and datasets, in their order."""
    place = {id(record): key for key, own in matrix.cells.items() for record in own}
    return [ShownRecord(record, *place[id(record)]) for record in records]


# -- addresses, relative to the site's root ------------------------------------------------------


def method_page(name: str) -> str:
    """The page of a method, by its registry name."""
    return f"methods/{file_name(name)}.html"


def dataset_page(dataset: TargetDataset) -> str:
    """The page of a dataset."""
    return f"datasets/{file_name(dataset.name)}.html"


def comparison_page(a: str, b: str) -> str:
    """The page of two methods, by their slugs."""
    return f"comparisons/{a}--against--{b}.html"


def record_file(record: Record) -> str:
    """The place of a record's JSON."""
    cell = record.cell
    return f"records/{file_name(cell.method)}/{file_name(cell.dataset)}/{cell.key}.json"


def anchor(track: Track, metric: str) -> str:
    """The place of a leaderboard within the first page."""
    return f"{track}-{metric}"
