"""What a local clean-up did, counted: every file is in exactly one class."""

from dataclasses import dataclass, field
from typing import Any

from photo_pipeline.core.cleanup.due import Candidate, FileClass

# Reasons that are kept for each class.
_SAMPLE = 20


@dataclass
class Tally:
    """Files of one class, and their bytes."""

    files: int = 0
    bytes: int = 0

    def add(self, size: int) -> None:
        """Count one more file."""
        self.files += 1
        self.bytes += size


@dataclass
class CleanedUp:
    """What a clean-up did, or (not `applied`) would do.

    Attributes:
        applied: Whether anything was moved or deleted at all.
        files: The files that migrated rows showed and that are not in the trash yet, by class.
        trash: What was in the trash before, by what became of it.
        unreferenced: Files that no row refers to; they are kept.
        reasons: Why files were kept, some for each class.
    """

    applied: bool
    files: dict[str, Tally] = field(default_factory=lambda: {str(each): Tally() for each in FileClass})
    trash: dict[str, Tally] = field(default_factory=dict)
    unreferenced: Tally = field(default_factory=Tally)
    reasons: dict[str, list[str]] = field(default_factory=dict)

    @property
    def has_findings(self) -> bool:
        """Whether something is not as it should be: changed, lost or foreign files, objects not proven."""
        strange = (FileClass.CHANGED, FileClass.NOT_PLAIN, FileClass.NOT_STORED, FileClass.MISSING)
        return any(self.files[each].files for each in strange) or any(
            self.trash[name].files
            for name in ("changed", "not_stored", "referenced_again", "missing")
            if name in self.trash
        )

    def count(self, outcome: str, candidate: Candidate, reason: str = "") -> None:
        """Put one file into its class."""
        self.files[outcome].add(candidate.photo.size)
        self._explain(outcome, f"{candidate.root}/{candidate.path}: {reason}" if reason else "")

    def count_trash(self, outcome: str, row: Any, reason: str = "") -> None:
        """Put one file of the trash into its class."""
        self.trash.setdefault(outcome, Tally()).add(row.size)
        self._explain(f"trash: {outcome}", f"{row.root}/{row.path}: {reason}" if reason else "")

    def _explain(self, outcome: str, reason: str) -> None:
        if reason and len(known := self.reasons.setdefault(str(outcome), [])) < _SAMPLE:
            known.append(reason)
